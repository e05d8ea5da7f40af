"""Which way up a page is, from what the text lines look like.

Normal pages cost nothing: only when most text stands on its side or looks upside down, a few lines are read both
ways. Right lines are read with confidence 0.95 and more, upside-down ones with about 0.65 (Latin) or 0.4 (Chinese).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cloudfinite.adapters.pictures import Pixels

_TALL = 1.5  # Height ÷ width from which RapidOCR takes a box for a line on its side, too.
_TALL_SHARE = 0.5
# The line classifier is less sure than reading: on dense Latin text it took up to 0.58 of an upright page for turned.
_FLIPPED_SHARE = 0.3
_SAMPLE_LINES = 6
_SAMPLE_LENGTH = 8  # Times a line's height.
_SAMPLE_CELLS = 8
_LEAST_CONFIDENCE = 0.75  # Below, neither way reads: a script the engine does not know, or a blurred photograph.
_LEAST_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class FoundLine:
    """One detected line.

    crop: its pixels lying down, before the line classifier; a tall box was turned anticlockwise for that.
    is_flipped: whether the classifier takes the crop for upside down. length_px: along the text.
    """

    crop: Pixels
    length_px: float
    is_tall: bool
    is_flipped: bool


@dataclass(frozen=True, slots=True)
class ReadText:
    """A crop's text with its confidence.

    Of each character that is no blank: where along the crop (0 to 1) its centre is, and its own confidence.
    """

    text: str
    confidence: float
    centres: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()


ReadCrops = Callable[[Sequence[Pixels]], list[ReadText]]


def is_tall(width_px: float, height_px: float) -> bool:
    return height_px >= _TALL * width_px


def page_angle(lines: Sequence[FoundLine], read: ReadCrops, *, is_sure_to_look: bool = False) -> int:
    """How far the page is turned clockwise from upright: 0, 90, 180 or 270 degrees.

    is_sure_to_look: read a few lines both ways even if nothing looks turned.
    """
    if not lines or not (is_sure_to_look or _may_be_turned(lines)):
        return 0
    on_side = _lies_on_side(lines)
    chosen = sorted((line for line in lines if line.is_tall == on_side), key=lambda line: -line.length_px)
    crops = [_beginning(line.crop) for line in chosen[:_SAMPLE_LINES]]
    as_found = read(crops)
    turned = read([half_turn(crop) for crop in crops])
    gain = _mean(turned) - _mean(as_found)
    if max(_mean(turned), _mean(as_found)) < _LEAST_CONFIDENCE or abs(gain) < _LEAST_MARGIN:
        return 0
    if not on_side:
        return 180 if gain > 0 else 0
    upright_crops = [half_turn(crop) for crop in crops] if gain > 0 else crops
    if _is_vertical_writing(upright_crops, turned if gain > 0 else as_found, read):
        return 180 if gain > 0 else 0
    return 270 if gain > 0 else 90


def _may_be_turned(lines: Sequence[FoundLine]) -> bool:
    """Whether the lines' outlines and the line classifier give reason to look closer."""
    total = sum(line.length_px for line in lines)
    flipped = sum(line.length_px for line in lines if line.is_flipped)
    return _lies_on_side(lines) or flipped > _FLIPPED_SHARE * total


def _lies_on_side(lines: Sequence[FoundLine]) -> bool:
    total = sum(line.length_px for line in lines)
    return sum(line.length_px for line in lines if line.is_tall) > _TALL_SHARE * total


def _mean(texts: Sequence[ReadText]) -> float:
    return sum(text.confidence for text in texts) / len(texts)


def half_turn(crop: Pixels) -> Pixels:
    return np.ascontiguousarray(crop[::-1, ::-1])


def _is_vertical_writing(crops: Sequence[Pixels], texts: Sequence[ReadText], read: ReadCrops) -> bool:
    """Whether tall lines are columns of upright characters rather than lines of a turned page.

    The engine reads both, so single characters are cut out and stood up as they are in a column: then they are read as
    in the line (measured: 8 of 8), while those of a turned page lie on their side (0 to 2 of 8). Only East Asian
    scripts are written so.
    """
    cells: list[Pixels] = []
    expected: list[str] = []
    for crop, line in zip(crops, texts, strict=True):
        letters = [character for character in line.text if not character.isspace()]
        for character, centre in zip(letters, line.centres, strict=False):
            if is_east_asian(character) and len(cells) < _SAMPLE_CELLS:
                cells.append(np.ascontiguousarray(np.rot90(_cell(crop, centre), -1)))
                expected.append(character)
    standing = [text.text for text in read(cells)] if cells else []
    return 2 * sum(wanted in text for text, wanted in zip(standing, expected, strict=True)) > len(cells)


def is_east_asian(text: str) -> bool:
    """Whether there is a Han or kana character in it."""
    return any("\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" for character in text)


def _beginning(crop: Pixels) -> Pixels:
    """As much of a line as tells which way up it is: a line costs by its length."""
    return np.ascontiguousarray(crop[:, : _SAMPLE_LENGTH * crop.shape[0]])


def _cell(crop: Pixels, centre: float) -> Pixels:
    """The square around a place on the line."""
    height, width = crop.shape[:2]
    left = min(max(round(centre * width - height / 2), 0), max(width - height, 0))
    return np.ascontiguousarray(crop[:, left : left + height])

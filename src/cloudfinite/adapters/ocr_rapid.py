"""RapidOCR: PP-OCRv6 small, from the weights inside the wheel, on OpenVINO or onnxruntime. Fetches nothing, ever.

A page is detected, turned upright where needed, read; where its script is none of the weights', Tesseract reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cloudfinite.adapters.ocr_geometry import (
    PageTurn,
    character_extents,
    ink_extent,
    outermost_pixels,
    page_skew,
    rotate_quad,
    trim_quad,
    turn_corners,
)
from cloudfinite.adapters.ocr_orientation import ReadText, is_east_asian, page_angle
from cloudfinite.adapters.ocr_rapid_nets import FoundBox, ModeOptions, RapidNets
from cloudfinite.adapters.ocr_scripts import is_better, unread_share, winning_script
from cloudfinite.adapters.ocr_tesseract import BY_LANGUAGE, Script, Tesseract
from cloudfinite.adapters.pictures import Pixels, load_picture
from cloudfinite.domain.ocr import (
    OcrMode,
    OcrRequest,
    PictureLimits,
    Reading,
    RecognisedCharacter,
    RecognisedLine,
    TextLanguage,
)
from cloudfinite.errors import EngineFailed, UnsupportedOption

# Measured, with what failed, in docs/ocr.md. No weights are made for handwriting.
MODES = {
    OcrMode.GENERAL: ModeOptions(),
    OcrMode.ACCURATE: ModeOptions(page_side_px=3000, most_side_px=2400),
    OcrMode.EFFICIENT: ModeOptions(shorter_side_px=0, most_side_px=1280, line_width_px=160),
    OcrMode.FAST: ModeOptions(shorter_side_px=0, most_side_px=960, line_width_px=160, line_squeeze=0.8),
    OcrMode.HANDWRITING: ModeOptions(),
}
_AS_THEY_ARE = ModeOptions(line_width_px=0, line_squeeze=1.0)  # Cells and samples that tell which way up a page is.

# Speed ÷ rapidocr alone (one core) and word F1, on the pages that docs/ocr.md names. Handwriting is read as general.
MEASURED = {
    OcrMode.GENERAL: (1.28, 0.972),
    OcrMode.ACCURATE: (1.13, 0.972),
    OcrMode.EFFICIENT: (1.59, 0.971),
    OcrMode.FAST: (1.83, 0.967),
    OcrMode.HANDWRITING: (1.28, 0.972),
}

_LEAST_SCORE = 0.5  # rapidocr's text_score: lines read with less are left out.
_DOUBTFUL_SCORE = 0.85
# How much of a page must be unread before other scripts are tried. Who asks to have the script found gets more tries.
_UNREAD_SHARE = 0.5
_UNREAD_SHARE_SEARCHING = 0.1
_SEARCHING = (TextLanguage.AUTO, TextLanguage.MIXED)
_WARM_UP_LINES = ("Every child process reads", "this text before its first job", "1234567890")


class RapidEngine:
    """Implements `ports.OcrEngine`.

    backend: "openvino", "onnxruntime", or "" for the first that is installed. det_model, cls_model, rec_model,
    rec_keys: an operator's own ONNX files by path, "" for those of the wheel. tesseract: the program's name or path,
    "" to do without.
    """

    def __init__(
        self,
        limits: PictureLimits,
        *,
        backend: str = "",
        threads: int = 1,
        det_model: str = "",
        cls_model: str = "",
        rec_model: str = "",
        rec_keys: str = "",
        tesseract: str = "tesseract",
    ) -> None:
        own = {
            "Det.model_path": det_model,
            "Cls.model_path": cls_model,
            "Rec.model_path": rec_model,
            "Rec.rec_keys_path": rec_keys,
        }
        self._limits = limits
        self._has_own_models = bool(rec_model)
        self._nets = RapidNets({name: path for name, path in own.items() if path}, backend=backend, threads=threads)
        self._tesseract = Tesseract(tesseract)

    def warm_up(self) -> None:
        """Read a drawn picture and compare; the first inference also compiles the networks."""
        reading = self._read_pixels(_warm_up_picture(), OcrRequest())
        read = tuple(line.text for line in reading.lines)
        if [_squeezed(text) for text in read] != [_squeezed(text) for text in _WARM_UP_LINES]:
            raise EngineFailed(f"the OCR engine read {read!r} where {_WARM_UP_LINES!r} was drawn")

    def read(self, path: Path, request: OcrRequest) -> Reading:
        self._check_language(request.language)
        picture = load_picture(path, self._limits, pdf_page=request.pdf_page)
        return self._read_pixels(picture.pixels, request, picture.page_count)

    def _check_language(self, language: TextLanguage) -> None:
        script = BY_LANGUAGE.get(language)
        if script and not self._has_own_models and script.code not in self._tesseract.codes:
            raise UnsupportedOption(
                f"LanguageType is {language}; to read {script.title}, install Tesseract with the package "
                f"{script.package} (or its file {script.code}.traineddata), or set the option rec_model to a model file"
            )

    def _read_pixels(self, pixels: Pixels, request: OcrRequest, page_count: int = 0) -> Reading:
        options = MODES[request.mode]
        height_px, width_px = pixels.shape[:2]
        found = self._nets.find_lines(pixels, options)
        angle = page_angle([box.line for box in found], lambda crops: self._nets.read_crops(crops, _AS_THEY_ARE))
        turn = PageTurn(angle, width_px, height_px)
        if angle:
            found = self._nets.turn_lines(found, turn)
        found, texts = self._read_boxes(found, request)
        if script := self._script(found, texts, request.language):
            if not angle:
                turn = PageTurn(self._script_angle(found, script), width_px, height_px)
                if turn.angle_deg:
                    found, texts = self._read_boxes(self._nets.turn_lines(found, turn), request)
            found, texts = self._read_script(found, texts, script)
        lines = [
            _line(box, text, turn, wants_characters=request.wants_characters)
            for box, text in zip(found, texts, strict=True)
            if text.text.strip() and text.confidence >= _LEAST_SCORE
        ]
        skew_deg = page_skew([line.upright_corners for line in lines])
        if skew_deg:
            size = (height_px, width_px) if turn.angle_deg in (90, 270) else (width_px, height_px)
            lines = [
                replace(line, upright_corners=rotate_quad(line.upright_corners, -skew_deg, *size)) for line in lines
            ]
        return Reading(tuple(lines), turn.angle_deg + skew_deg, page_count)

    def _read_boxes(self, found: Sequence[FoundBox], request: OcrRequest) -> tuple[list[FoundBox], list[ReadText]]:
        """Read the lines; one that the classifier turned and that reads badly is read as it was found, too."""
        options = MODES[request.mode]
        boxes = list(found)
        texts = self._nets.read_crops(
            [box.upright_crop for box in found], options, wants_places=request.wants_characters
        )
        for index, (box, text) in enumerate(zip(found, texts, strict=True)):
            if box.should_flip and text.confidence < _DOUBTFUL_SCORE:
                (other,) = self._nets.read_crops([box.line.crop], options, wants_places=request.wants_characters)
                if other.confidence > text.confidence:
                    boxes[index], texts[index] = box.unflipped(), other
        return boxes, texts

    # --- other scripts ----------------------------------------------------------------------------------------------

    def _script(self, found: Sequence[FoundBox], texts: Sequence[ReadText], language: TextLanguage) -> Script | None:
        """The script that Tesseract is to read: as asked for, or found where the engine could read little."""
        if self._has_own_models or not found:
            return None
        if asked := BY_LANGUAGE.get(language):
            return asked
        lines = [box.line for box in found]
        least = _UNREAD_SHARE_SEARCHING if language in _SEARCHING else _UNREAD_SHARE
        if unread_share(lines, texts) < least:
            return None
        scripts = [script for script in self._tesseract.scripts if script.unicode_name != "LATIN"]
        return winning_script(lines, texts, scripts, self._tesseract.read)

    def _script_angle(self, found: Sequence[FoundBox], script: Script) -> int:
        return page_angle(
            [box.line for box in found], lambda crops: self._tesseract.read(crops, script), is_sure_to_look=True
        )

    def _read_script(
        self, found: Sequence[FoundBox], texts: Sequence[ReadText], script: Script
    ) -> tuple[list[FoundBox], list[ReadText]]:
        """Each line as Tesseract reads it where that is better; the line classifier errs on scripts it never saw."""
        as_classified = self._tesseract.read([box.upright_crop for box in found], script, with_english=True)
        flipped = [index for index, box in enumerate(found) if box.should_flip]
        crops = [found[index].line.crop for index in flipped]
        as_found = dict(zip(flipped, self._tesseract.read(crops, script, with_english=True), strict=True))
        boxes, chosen = list(found), list(texts)
        for index, text in enumerate(as_classified):
            other = as_found.get(index, text)
            is_other = other.confidence > text.confidence
            if is_better(found[index].line, texts[index], other if is_other else text, script):
                chosen[index] = other if is_other else text
                boxes[index] = found[index].unflipped() if is_other else found[index]
        return boxes, chosen


def _line(box: FoundBox, text: ReadText, turn: PageTurn, *, wants_characters: bool) -> RecognisedLine:
    # Columns of upright characters have their corners from the picture's top left, too.
    steps = 3 if box.line.is_tall and is_east_asian(text.text) else 0
    extent = ink_extent(box.upright_crop)
    upright = turn.clipped(outermost_pixels(trim_quad(box.corners, extent)))
    return RecognisedLine(
        text=text.text,
        confidence=text.confidence,
        corners=turn_corners(turn.displayed(upright), steps),
        upright_corners=turn_corners(upright, steps),
        characters=_characters(box, text, turn, steps) if wants_characters else (),
    )


def _characters(box: FoundBox, text: ReadText, turn: PageTurn, steps: int) -> tuple[RecognisedCharacter, ...]:
    """Characters without blanks. Inside a word their widths are approximate."""
    words = text.text.split()
    extents = character_extents(box.upright_crop, text.centres, [len(word) for word in words])
    quads = [turn.clipped(outermost_pixels(trim_quad(box.corners, extent))) for extent in extents]
    return tuple(
        RecognisedCharacter(letter, confidence, turn_corners(turn.displayed(quad), steps))
        for letter, confidence, quad in zip("".join(words), text.confidences, quads, strict=False)
    )


def _warm_up_picture() -> Pixels:
    image = Image.new("RGB", (640, 220), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(32)  # Carried by Pillow.
    for row, text in enumerate(_WARM_UP_LINES):
        draw.text((30, 30 + 60 * row), text, "black", font)
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()

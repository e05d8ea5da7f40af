"""Where text lies: quads of lines and characters, and turning a page and mapping back what was found on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudfinite.adapters.pictures import Pixels
from cloudfinite.domain.ocr import Point, Quad

_LEAST_SEPARATION = 0.8
_MOST_TRIMMED = 0.35  # Of a line's height, at each side.
_MOST_TRIMMED_WORD = 0.45
_SPECK = 0.004
_LEAST_LENGTH = 5.0  # Length ÷ height of lines whose slope is worth something.
_SAME_SLOPE_DEG = 1.0
_LEAST_SKEW_DEG = 0.5
_AGREEING_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class PageTurn:
    """How the displayed picture (of this size) is turned clockwise from upright: 0, 90, 180 or 270 degrees."""

    angle_deg: int
    width_px: int
    height_px: int

    def upright(self, pixels: Pixels) -> Pixels:
        """The displayed picture, turned back."""
        return np.ascontiguousarray(np.rot90(pixels, self.angle_deg // 90)) if self.angle_deg else pixels

    def displayed(self, quad: Quad) -> Quad:
        """From pixels of the upright picture to pixels of the displayed one."""
        right, bottom = self.width_px - 1, self.height_px - 1
        match self.angle_deg:
            case 90:
                return _mapped(quad, lambda x, y: (right - y, x))
            case 180:
                return _mapped(quad, lambda x, y: (right - x, bottom - y))
            case 270:
                return _mapped(quad, lambda x, y: (y, bottom - x))
        return quad

    def upright_outline(self, outline: Quad) -> Quad:
        """From edges on the displayed picture to edges on the upright one, beginning with its own top left."""
        right, bottom = self.width_px, self.height_px  # Edges, not pixels: the last pixel's right edge.
        match self.angle_deg:
            case 90:
                mapped = _mapped(outline, lambda x, y: (y, right - x))
            case 180:
                mapped = _mapped(outline, lambda x, y: (right - x, bottom - y))
            case 270:
                mapped = _mapped(outline, lambda x, y: (bottom - y, x))
            case _:
                return outline
        return turn_corners(mapped, self.angle_deg // 90)

    def clipped(self, quad: Quad) -> Quad:
        """The quad, of the upright picture, within the outermost pixels."""
        width_px, height_px = (
            (self.width_px, self.height_px) if self.angle_deg in (0, 180) else (self.height_px, self.width_px)
        )
        return _mapped(quad, lambda x, y: (min(max(x, 0), width_px - 1), min(max(y, 0), height_px - 1)))


def _mapped(quad: Quad, move: Callable[[float, float], Point]) -> Quad:
    a, b, c, d = (move(x, y) for x, y in quad)
    return a, b, c, d


def turn_corners(quad: Quad, steps: int) -> Quad:
    """The same outline beginning `steps` corners later, clockwise."""
    steps %= 4
    a, b, c, d = quad[steps:] + quad[:steps]
    return a, b, c, d


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of a line's outline, as shares of its length and height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


def ink_extent(crop: Pixels) -> Extent:
    """Where the ink is in the crop of a line that lies upright.

    The detector grows its boxes, up to twice the height of small letters. Where letters stand out clearly from an even
    ground, rows and columns without ink are taken off again; on anything else (photographs) the outline stays.
    """
    ink = _ink(crop)
    if ink is None:
        return Extent()
    height, width = ink.shape
    top, bottom = _trimmed(np.count_nonzero(ink, axis=1), round(height * _MOST_TRIMMED), width)
    left, right = _trimmed(np.count_nonzero(ink, axis=0), round(height * _MOST_TRIMMED), height)
    return Extent(left / width, top / height, right / width, bottom / height)


def _ink(crop: Pixels) -> NDArray[np.bool_] | None:
    """Which pixels are ink; None where letters do not stand out clearly."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    ink: NDArray[np.bool_] = grey <= threshold
    if np.count_nonzero(ink) * 2 > ink.size:
        ink = ~ink
    return ink if ink.any() and _separation(grey, ink) >= _LEAST_SEPARATION else None


def _separation(grey: Pixels, ink: NDArray[np.bool_]) -> float:
    """How much of the crop's variance the two shades explain: 0.75 for an even gradient, nearly 1 for print."""
    share = float(ink.mean())
    between = share * (1 - share) * (float(grey[ink].mean()) - float(grey[~ink].mean())) ** 2
    return between / max(float(grey.var()), 1e-9)


def _trimmed(counts: NDArray[np.intp], most: int, across: int) -> tuple[int, int]:
    """First place with ink and the end of the last, at most `most` from the ends; a speck is no ink."""
    speck = across * _SPECK
    start, end = 0, len(counts)
    while start < most and counts[start] <= speck:
        start += 1
    while end > len(counts) - most and counts[end - 1] <= speck:
        end -= 1
    return start, max(end, start + 1)


def trim_quad(quad: Quad, extent: Extent) -> Quad:
    """The part of the outline that the extent, measured on its crop, says.

    Crops are cut in perspective: where an outline's ends differ in height by one pixel of thirty, the middle of a line
    of 300 pixels lies 3 pixels beside the middle of the outline.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad
    dx1, dx2, sum_x = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sum_y = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    determinant = dx1 * dy2 - dx2 * dy1
    # The projection that takes the unit square to the outline (Heckbert, Fundamentals of Texture Mapping, 2.2.3).
    g = (sum_x * dy2 - dx2 * sum_y) / determinant if determinant else 0.0
    h = (dx1 * sum_y - sum_x * dy1) / determinant if determinant else 0.0

    def place(u: float, v: float) -> Point:
        depth = g * u + h * v + 1
        x = ((x1 - x0 + g * x1) * u + (x3 - x0 + h * x3) * v + x0) / depth
        return x, ((y1 - y0 + g * y1) * u + (y3 - y0 + h * y3) * v + y0) / depth

    return (
        place(extent.left, extent.top),
        place(extent.right, extent.top),
        place(extent.right, extent.bottom),
        place(extent.left, extent.bottom),
    )


def outermost_pixels(quad: Quad) -> Quad:
    """From an outline's edges to the outermost pixels within it: one less to the right and below."""
    a, b, _, d = quad
    along = 1 / max(math.dist(a, b), 1.0)
    down = 1 / max(math.dist(a, d), 1.0)
    return trim_quad(quad, Extent(right=1 - along, bottom=1 - down))


def character_spans(centres: Sequence[float]) -> list[tuple[float, float]]:
    """Start and end (0 to 1 along the line) of characters with these centres.

    Neighbours meet half-way; where a blank is between, a character is as wide as is usual in its line.
    """
    gaps = [after - before for before, after in pairwise(centres)]
    usual = median(gaps) if gaps else 1.0
    spans = []
    for index, centre in enumerate(centres):
        before = min(gaps[index - 1] if index else usual, usual)
        after = min(gaps[index] if index < len(gaps) else usual, usual)
        spans.append((max(centre - before / 2, 0.0), min(centre + after / 2, 1.0)))
    return spans


def character_extents(crop: Pixels, centres: Sequence[float], word_lengths: Sequence[int]) -> list[Extent]:
    """Where the characters are on the line; word_lengths tells how many belong to each word.

    The recogniser's places are approximate. Where letters stand out clearly, words begin and end, and are as high, as
    their ink; inside a word the places are stretched to it.
    """
    spans = character_spans(centres)
    ink = _ink(crop)
    if ink is None or sum(word_lengths) != len(spans):
        rows = ink_extent(crop)
        return [Extent(start, rows.top, end, rows.bottom) for start, end in spans]
    ends = [*accumulate(word_lengths)]
    gaps = [_widest_gap(ink, centres[end - 1], centres[end]) for end in ends[:-1]]
    starts, stops = [0.0, *(stop for _, stop in gaps)], [*(start for start, _ in gaps), 1.0]
    extents: list[Extent] = []
    for end, length, start, stop in zip(ends, word_lengths, starts, stops, strict=True):
        extents += _stretched(spans[end - length : end], _part_with_ink(ink, start, stop))
    return extents


def _widest_gap(ink: NDArray[np.bool_], before: float, after: float) -> tuple[float, float]:
    """The widest run of columns without ink between the middles of two characters; half-way if there is none."""
    width = ink.shape[1]
    first, last = round(before * width), round(after * width)
    best, start = (0, 0), first
    for column in range(first, last + 1):
        if column == last or ink[:, min(column, width - 1)].any():
            best = max(best, (column - start, start))
            start = column + 1
    length, start = best
    if not length:
        return (before + after) / 2, (before + after) / 2
    return start / width, (start + length) / width


def _part_with_ink(ink: NDArray[np.bool_], start: float, stop: float) -> Extent:
    """Where the ink is between two places along the line."""
    height, width = ink.shape
    first, last = round(start * width), max(round(stop * width), round(start * width) + 1)
    part = ink[:, first:last]
    if not part.any():
        return Extent(start, 0.0, stop, 1.0)
    top, bottom = _trimmed(np.count_nonzero(part, axis=1), round(height * _MOST_TRIMMED_WORD), 0)
    left, right = _trimmed(np.count_nonzero(part, axis=0), part.shape[1], 0)
    return Extent((first + left) / width, top / height, (first + right) / width, bottom / height)


def _stretched(spans: Sequence[tuple[float, float]], word: Extent) -> list[Extent]:
    """Characters' places, stretched so that they fill their word."""
    before, length = spans[0][0], max(spans[-1][1] - spans[0][0], 1e-9)
    scale = (word.right - word.left) / length
    places = [[word.left + (place - before) * scale for place in span] for span in spans]
    return [Extent(start, word.top, end, word.bottom) for start, end in places]


# --- slightly turned pages ------------------------------------------------------------------------------------------


def page_skew(quads: Sequence[Quad]) -> float:
    """How far the lines of a page slope, in degrees clockwise; 0 for less than half a degree or without agreement."""
    slopes = []
    for quad in quads:
        (left, top), (right, bottom), (_, below), _ = quad
        length, height = right - left, abs(below - bottom)
        if length >= _LEAST_LENGTH * max(height, 1.0):
            slopes.append((math.degrees(math.atan2(bottom - top, length)), length))
    if not slopes:
        return 0.0
    slopes.sort()
    total, passed, skew = sum(length for _, length in slopes), 0.0, 0.0
    for slope, length in slopes:
        passed += length
        if passed * 2 >= total:
            skew = slope
            break
    agreeing = sum(length for slope, length in slopes if abs(slope - skew) <= _SAME_SLOPE_DEG)
    is_real = abs(skew) >= _LEAST_SKEW_DEG and agreeing >= _AGREEING_SHARE * total
    return skew if is_real else 0.0


def rotate_quad(quad: Quad, angle_deg: float, width_px: int, height_px: int) -> Quad:
    """The quad on the page of this size turned clockwise about its middle."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    x0, y0 = (width_px - 1) / 2, (height_px - 1) / 2
    return _mapped(
        quad,
        lambda x, y: (x0 + (x - x0) * cosine - (y - y0) * sine, y0 + (x - x0) * sine + (y - y0) * cosine),
    )

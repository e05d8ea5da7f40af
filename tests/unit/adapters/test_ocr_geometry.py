"""Turning a page and mapping back; where characters and ink lie on a line; which way up a page is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cloudfinite.adapters.ocr_geometry import (
    Extent,
    PageTurn,
    character_extents,
    character_spans,
    ink_extent,
    outermost_pixels,
    page_skew,
    rotate_quad,
    trim_quad,
    turn_corners,
)
from cloudfinite.adapters.ocr_orientation import FoundLine, ReadText, page_angle
from cloudfinite.adapters.pictures import Pixels
from cloudfinite.domain.ocr import Quad

QUAD: Quad = ((10, 20), (110, 20), (110, 40), (10, 40))


@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
def test_pixel_of_the_upright_page_is_found_on_the_displayed_one(angle_deg: int) -> None:
    displayed = np.zeros((7, 5, 3), dtype=np.uint8)
    displayed[2, 1] = 255
    turn = PageTurn(angle_deg, width_px=5, height_px=7)
    (row, column), *_ = np.argwhere(turn.upright(displayed)[:, :, 0])
    point = (float(column), float(row))
    assert turn.displayed((point, point, point, point)) == ((1, 2),) * 4


@pytest.mark.parametrize("angle_deg", [0, 90])
def test_corners_outside_the_page_are_put_on_its_edge(angle_deg: int) -> None:
    turn = PageTurn(angle_deg, width_px=100, height_px=50)
    right, bottom = (99, 49) if angle_deg == 0 else (49, 99)
    clipped = turn.clipped(((-5, -5), (500, -5), (500, 500), (-5, 500)))
    assert clipped == ((0, 0), (right, 0), (right, bottom), (0, bottom))


def test_outline_may_begin_at_another_corner() -> None:
    assert turn_corners(QUAD, 1) == ((110, 20), (110, 40), (10, 40), (10, 20))
    assert turn_corners(turn_corners(QUAD, 1), 3) == QUAD


def test_part_of_a_line_is_cut_along_and_across_the_text() -> None:
    assert trim_quad(QUAD, Extent(left=0.25, right=0.5)) == ((35, 20), (60, 20), (60, 40), (35, 40))
    assert trim_quad(QUAD, Extent(top=0.25, bottom=0.5)) == ((10, 25), (110, 25), (110, 30), (10, 30))


def test_part_of_an_uneven_outline_is_where_its_crop_shows_it() -> None:
    outline: Quad = ((0, 0), (300, 0), (300, 30), (0, 32))
    middle = trim_quad(outline, Extent(right=0.5))[1]
    assert middle == pytest.approx((154.8, 0), abs=0.1)


def test_characters_meet_half_way_but_not_across_a_blank() -> None:
    spans = character_spans([0.1, 0.2, 0.3, 0.7])
    assert [round(start, 2) for start, _ in spans] == [0.05, 0.15, 0.25, 0.65]
    assert [round(end, 2) for _, end in spans] == [0.15, 0.25, 0.35, 0.75]
    assert character_spans([]) == [] and character_spans([0.5]) == [(0.0, 1.0)]


@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (20, 240)])
def test_ink_is_found_on_an_even_ground(ground: int, ink: int) -> None:
    crop = np.full((40, 200, 3), ground, dtype=np.uint8)
    crop[10:30, 5:190:4] = ink
    assert ink_extent(crop) == Extent(5 / 200, 10 / 40, 190 / 200, 30 / 40)


def test_outline_stays_where_no_ink_stands_out() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (40, 200, 3), dtype=np.uint8)
    assert ink_extent(noise) == Extent()
    assert ink_extent(np.full((40, 200, 3), 9, dtype=np.uint8)) == Extent()


class Reader:
    """Reads crops whose first pixel is bright well, others badly; notes how many it was given."""

    def __init__(self, *, standing: bool = False) -> None:
        self.count = 0
        self.standing = standing

    def __call__(self, crops: Sequence[Pixels]) -> list[ReadText]:
        self.count += len(crops)
        return [self._read(crop) for crop in crops]

    def _read(self, crop: Pixels) -> ReadText:
        if crop.shape[0] == crop.shape[1]:  # A single character, stood up.
            return ReadText("字" if self.standing else "?", 1.0)
        return ReadText("字字", 0.98, (0.25, 0.75)) if crop[0, 0, 0] else ReadText("%", 0.6)


def line(*, starts_bright: bool, is_tall: bool = False, is_flipped: bool = False) -> FoundLine:
    crop = np.zeros((10, 20, 3), dtype=np.uint8)
    corner = 0 if starts_bright else -1
    crop[corner, corner] = 255
    return FoundLine(crop, 20.0, is_tall, is_flipped)


def test_normal_page_costs_no_reading() -> None:
    reader = Reader()
    assert page_angle([line(starts_bright=True)] * 5 + [line(starts_bright=True, is_flipped=True)], reader) == 0
    assert page_angle([], reader) == 0 and reader.count == 0


@pytest.mark.parametrize(
    ("starts_bright", "is_tall", "is_flipped", "angle_deg"),
    [(False, False, True, 180), (True, False, True, 0), (True, True, False, 90), (False, True, True, 270)],
)
def test_reading_both_ways_decides(starts_bright: bool, is_tall: bool, is_flipped: bool, angle_deg: int) -> None:
    found = [line(starts_bright=starts_bright, is_tall=is_tall, is_flipped=is_flipped)] * 8
    reader = Reader()
    assert page_angle(found, reader) == angle_deg
    assert reader.count <= 6 + 6 + 8


@pytest.mark.parametrize(("starts_bright", "angle_deg"), [(True, 0), (False, 180)])
def test_columns_of_upright_characters_are_no_turned_page(starts_bright: bool, angle_deg: int) -> None:
    found = [line(starts_bright=starts_bright, is_tall=True)] * 4
    assert page_angle(found, Reader(standing=True)) == angle_deg


@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
def test_outline_of_the_displayed_page_is_found_on_the_upright_one(angle_deg: int) -> None:
    turn = PageTurn(angle_deg, width_px=200, height_px=100)
    upright = turn.upright_outline(QUAD)
    assert min(upright, key=sum) == upright[0]  # It begins at the top left there, too.
    assert set(turn.displayed(outermost_pixels(upright))) == set(outermost_pixels(QUAD))


def sloping(slope_deg: float, top: float = 0) -> Quad:
    rise = 400 * np.tan(np.radians(slope_deg))
    return (0, top), (400, top + rise), (400, top + rise + 30), (0, top + 30)


@pytest.mark.parametrize(
    ("slopes", "skew"), [([3, 3.1, 2.9, 3], 3), ([-4, -4], -4), ([0.3, 0.2], 0), ([5, -5, 0, 10], 0), ([], 0)]
)
def test_skew_is_what_most_lines_agree_on(slopes: list[float], skew: float) -> None:
    assert page_skew([sloping(slope, 50.0 * row) for row, slope in enumerate(slopes)]) == pytest.approx(skew, abs=0.05)


def test_page_turned_back_is_level() -> None:
    level = rotate_quad(sloping(3), -3, 1000, 800)
    assert level[0][1] == pytest.approx(level[1][1], abs=0.01)


def test_words_begin_and_end_with_their_ink() -> None:
    crop = np.full((40, 300, 3), 255, dtype=np.uint8)
    crop[10:30, 20:100] = crop[18:30, 150:280] = 0
    first, *_, last = character_extents(crop, [0.1, 0.2, 0.3, 0.55, 0.7, 0.85], [3, 3])
    assert (first.left, first.top, first.bottom) == (20 / 300, 10 / 40, 30 / 40)
    assert (last.right, last.top, last.bottom) == (280 / 300, 18 / 40, 30 / 40)


def test_outermost_pixels_are_within_the_outline() -> None:
    assert outermost_pixels(QUAD) == ((10, 20), (109, 20), (109, 39), (10, 39))

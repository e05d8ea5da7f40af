"""Sizes that pages and lines are given to the networks with."""

from itertools import pairwise

import pytest

from cloudfinite.adapters.ocr_rapid import MODES
from cloudfinite.adapters.ocr_rapid_nets import ModeOptions, line_width
from cloudfinite.domain.ocr import OcrMode


def test_lines_of_all_lengths_have_few_widths() -> None:
    widths = sorted({line_width(length) for length in range(1, 3000)})

    assert len(widths) <= 32
    assert all(width % 16 == 0 for width in widths)
    assert all(after - before <= max(16, before * 0.15) for before, after in pairwise(widths))


@pytest.mark.parametrize("mode", OcrMode)
def test_line_fits_its_width(mode: OcrMode) -> None:
    for ratio in (0.01, 1.0, 3.9, 4.1, 9.7, 60.0):
        length, width = MODES[mode].line_size(ratio)

        assert 1 <= length <= width
        assert width >= MODES[mode].line_width_px


def test_only_lines_above_the_least_width_are_squeezed() -> None:
    options = ModeOptions(line_width_px=160, line_squeeze=0.8)

    assert [options.line_size(length / 48)[0] for length in (100, 160, 180, 200, 400)] == [100, 160, 160, 160, 320]


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        pytest.param((500, 700), 736 / 500, id="small: shorter side enlarged"),
        pytest.param((200, 1000), 1.6, id="strip: longer side as far as the most"),
        pytest.param((1000, 1400), 1.0, id="as it is"),
        pytest.param((1400, 2000), 0.8, id="large: longer side scaled down"),
    ],
)
def test_page_is_scaled_for_the_detector(size: tuple[int, int], ratio: float) -> None:
    assert ModeOptions().detector_ratio(*size) == pytest.approx(ratio)
    assert ModeOptions().detector_ratio(*reversed(size)) == pytest.approx(ratio)


def test_fast_never_enlarges_and_accurate_shrinks_least() -> None:
    assert MODES[OcrMode.FAST].detector_ratio(100, 200) == 1
    assert MODES[OcrMode.ACCURATE].detector_ratio(1700, 2400) == 1

"""ImageOCR with the real engine, on pages that the tests draw."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.operations.pages import LINES, Page, Rectangle, around, draw_page, overlap, write_pdf

from cloudfinite.adapters.ocr import build_engine
from cloudfinite.domain.ocr import OcrMode
from cloudfinite.errors import SetupError, UnreadableInput
from cloudfinite.operations.image_ocr import Corner, Detection, OcrParams, recognise
from cloudfinite.ports import EngineSpec, OcrEngine
from cloudfinite.wire.operation import LocalFile

pytestmark = pytest.mark.real_engine


@pytest.fixture(scope="session")
def engine() -> OcrEngine:
    built = build_engine(EngineSpec())
    built.warm_up()
    return built


def read(engine: OcrEngine, path: Path, **params: Any) -> Detection:
    return recognise(LocalFile(path), OcrParams(**params), engine)


def save(page: Page, path: Path) -> Path:
    page.image.save(path)
    return path


def texts(found: Detection) -> list[str]:
    return [line.text for line in found.lines]


def rectangle(corners: Sequence[Corner]) -> Rectangle:
    return around([(corner.x, corner.y, corner.x + 1, corner.y + 1) for corner in corners])


@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
def test_turned_page_is_read_upright_and_in_order(engine: OcrEngine, tmp_path: Path, angle_deg: int) -> None:
    page = draw_page().turned(angle_deg)
    found = read(engine, save(page, tmp_path / "page.png"))
    assert texts(found) == list(LINES)
    assert found.angle == str(angle_deg)
    for line in found.lines:
        assert overlap(rectangle(line.corners), page.lines[line.text]) >= 0.7


@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
def test_corners_begin_at_the_texts_top_left(engine: OcrEngine, tmp_path: Path, angle_deg: int) -> None:
    found = read(engine, save(draw_page().turned(angle_deg), tmp_path / "page.png"))
    first, second = found.lines[0].corners[:2]
    along = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle_deg]
    assert (second.x - first.x) * along[0] + (second.y - first.y) * along[1] > 200


@pytest.mark.parametrize("angle_deg", [90, 180, 270])
def test_box_is_in_the_picture_after_rotation_correction(engine: OcrEngine, tmp_path: Path, angle_deg: int) -> None:
    upright = draw_page()
    found = read(engine, save(upright.turned(angle_deg), tmp_path / "page.png"))
    for line in found.lines:
        box = (line.box.x, line.box.y, line.box.x + line.box.width, line.box.y + line.box.height)
        assert overlap(box, upright.lines[line.text]) >= 0.7


def missed_words(found: Detection, page: Page) -> list[tuple[str, float]]:
    """Drawn words that no outline hits well, with how well."""
    characters = [word for line in found.lines for word in line.words]
    assert "".join(word.character for word in characters) == "".join(word for word, _ in page.words)
    missed = []
    for word, drawn in page.words:
        of_word, characters = characters[: len(word)], characters[len(word) :]
        hit = overlap(around([rectangle(character.coordinates.corners) for character in of_word]), drawn)
        if hit < 0.7:
            missed.append((word, hit))
    return missed


@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("letter_px", [28, 48])
def test_words_lie_where_they_were_drawn(engine: OcrEngine, tmp_path: Path, letter_px: int, angle_deg: int) -> None:
    size = (22 * letter_px, 10 * letter_px)
    page = draw_page(size=size, letter_px=letter_px).turned(angle_deg)
    assert missed_words(read(engine, save(page, tmp_path / "page.png"), is_word=True), page) == []
    write_pdf(tmp_path / "page.pdf", [page])
    assert missed_words(read(engine, tmp_path / "page.pdf", is_word=True, is_pdf=True), page) == []


@pytest.mark.parametrize("slope_deg", [2, 7, -5])
def test_angle_tells_a_small_skew(engine: OcrEngine, tmp_path: Path, slope_deg: int) -> None:
    image = draw_page().image.rotate(-slope_deg, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    image.save(tmp_path / "skew.png")
    found = read(engine, tmp_path / "skew.png")
    assert abs((float(found.angle) - slope_deg + 180) % 360 - 180) < 0.6
    assert texts(found) == list(LINES)
    assert max(line.box.height for line in found.lines) < 45  # After rotation correction.


def test_handwriting_outlines_are_given_when_asked_for(engine: OcrEngine, tmp_path: Path) -> None:
    path = save(draw_page(("Noon",)), tmp_path / "page.png")
    (line,) = read(engine, path, mode=OcrMode.HANDWRITING, enable_word_polygon=True).lines
    assert len(line.outlines) == 4 and not line.words
    assert line.outlines[0].right_top.x <= line.outlines[1].left_top.x + 1


@pytest.mark.parametrize("mode", list(OcrMode))
def test_every_mode_reads(engine: OcrEngine, tmp_path: Path, mode: OcrMode) -> None:
    found = read(engine, save(draw_page(), tmp_path / "page.png"), mode=mode)
    assert texts(found) == list(LINES)
    assert found.language == "zh" and all(line.confidence > 90 for line in found.lines)


# Wire: EXIF, tag Orientation: what has been done to the displayed picture to get the stored one.
STORED_AS = {
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


@pytest.mark.parametrize("orientation", list(STORED_AS))
def test_picture_is_read_as_displayed(engine: OcrEngine, tmp_path: Path, orientation: int) -> None:
    page = draw_page(LINES[:2], size=(640, 160))
    stored = page.image
    for step in STORED_AS[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    found = read(engine, tmp_path / "photo.jpg", is_word=True)
    assert found.angle == "0" and texts(found) == list(LINES[:2])
    assert missed_words(found, page) == []
    for line in found.lines:
        assert overlap(rectangle(line.corners), page.lines[line.text]) >= 0.7


def test_wanted_page_of_a_pdf_is_read_at_200_dpi(engine: OcrEngine, tmp_path: Path) -> None:
    second = draw_page(LINES[2:])
    write_pdf(tmp_path / "pages.pdf", [draw_page(LINES[:2]), second])
    found = read(engine, tmp_path / "pages.pdf", is_pdf=True, pdf_page_number=2)
    assert texts(found) == list(LINES[2:]) and found.pdf_page_count == 2
    for line in found.lines:
        assert overlap(rectangle(line.corners), second.lines[line.text]) >= 0.7


def test_turned_page_of_a_pdf_is_read_upright(engine: OcrEngine, tmp_path: Path) -> None:
    write_pdf(tmp_path / "turned.pdf", [draw_page().turned(180)])
    found = read(engine, tmp_path / "turned.pdf", is_pdf=True)
    assert found.angle == "180" and texts(found) == list(LINES)


def test_pdf_is_refused_where_it_was_not_announced(engine: OcrEngine, tmp_path: Path) -> None:
    write_pdf(tmp_path / "pages.pdf", [draw_page()])
    with pytest.raises(UnreadableInput, match="set IsPdf to true"):
        read(engine, tmp_path / "pages.pdf")
    with pytest.raises(UnreadableInput, match="Type general or fast"):
        read(engine, tmp_path / "pages.pdf", is_pdf=True, mode=OcrMode.ACCURATE)


@pytest.mark.parametrize("size", [(1, 1), (9_000, 1), (1, 9_000), (40, 3_000), (600, 400)])
def test_blank_picture_of_any_shape_has_no_text(engine: OcrEngine, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size, 255).save(tmp_path / "blank.png")
    assert read(engine, tmp_path / "blank.png") == Detection(angle="0", pdf_page_count=0, language="")


COLUMN = (
    "It was a bright cold day in April",
    "and the clocks were all striking",
    "thirteen while he slipped in and",
    "closed the glass doors behind him",
)


def test_columns_of_text_are_read_one_after_the_other(engine: OcrEngine, tmp_path: Path) -> None:
    other = tuple(line.replace("the", "her")[::-1] for line in COLUMN)
    image = Image.new("RGB", (1240, 320), "white")
    image.paste(draw_page(COLUMN, size=(600, 320)).image, (0, 0))
    image.paste(draw_page(other, size=(600, 320)).image, (640, 0))
    image.save(tmp_path / "columns.png")
    assert [line.box.x > 600 for line in read(engine, tmp_path / "columns.png").lines] == [False] * 4 + [True] * 4


def test_engine_is_not_able_to_send_telemetry(engine: OcrEngine) -> None:
    assert sys.modules["openvino_telemetry"] is None


def test_unknown_engine_is_a_setup_error() -> None:
    with pytest.raises(SetupError, match="there is no OCR engine 'magic'"):
        build_engine(EngineSpec("magic"))
    with pytest.raises(SetupError, match="does not take its options"):
        build_engine(EngineSpec("fixed", {"colour": "red"}))

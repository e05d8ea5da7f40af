"""`cloudfinite ocr`: every form, files and folders, PDF pages, standard input – and what it does with broken files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import etree
from PIL import Image
from tests.operations.pages import LINES, draw_page, write_pdf
from typer.testing import CliRunner, Result

from cloudfinite.cli import app
from cloudfinite.cli.ocr import PagesFailed
from cloudfinite.cli.ocr_run import parse_pages, wanted_pages
from cloudfinite.errors import SetupError

FIXED = {"lines": [{"text": "Noon & soil", "box": [40, 24, 176, 35]}], "page_count": 3}


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["ocr", *arguments], input=stdin)


@pytest.fixture(autouse=True)
def fixed_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that reads the same from every file, and is there at once."""
    monkeypatch.setenv("CLOUDFINITE_OCR_ENGINE", "fixed")
    monkeypatch.setenv("CLOUDFINITE_OCR_OPTIONS", json.dumps(FIXED))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    draw_page().image.save(tmp_path / "page.png")
    return tmp_path / "page.png"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    write_pdf(tmp_path / "pages.pdf", [draw_page()] * 3)
    return tmp_path / "pages.pdf"


def test_text_of_one_picture_is_all_that_is_printed(picture: Path) -> None:
    result = run(str(picture))
    assert (result.stdout, result.stderr, result.exit_code) == ("Noon & soil\n", "", 0)


def test_json_and_xml_are_the_detection_of_the_wire(picture: Path) -> None:
    found = json.loads(run("--json", str(picture)).stdout)["Detection"]
    assert found["TextDetections"][0]["DetectedText"] == "Noon & soil"
    root = etree.fromstring(run("--xml", str(picture)).stdout)
    assert root.tag == "Detection" and root.findtext("TextDetections/DetectedText") == "Noon & soil"
    assert [child.tag for child in root] == sorted(child.tag for child in root)


def test_characters_are_given_when_asked_for(picture: Path) -> None:
    found = json.loads(run("--json", "--words", str(picture)).stdout)["Detection"]
    assert "".join(word["Character"] for word in found["TextDetections"][0]["Words"]) == "Noon&soil"


def test_pages_of_a_pdf_and_files_of_a_folder_are_read_in_order(picture: Path, document: Path) -> None:
    (picture.parent / "notes.txt").write_text("no picture")
    pages = json.loads(run("--json", str(picture.parent)).stdout)
    assert [(Path(page["File"]).name, page["Number"]) for page in pages] == [
        ("page.png", 0),
        ("pages.pdf", 1),
        ("pages.pdf", 2),
        ("pages.pdf", 3),
    ]
    assert len(etree.fromstring(run("--xml", str(document), str(picture)).stdout)) == 4


def test_pages_that_are_wanted_are_read(document: Path) -> None:
    text = run("--pages", "2-", str(document)).stdout
    assert text == f"==> {document}, page 2 <==\nNoon & soil\n\n==> {document}, page 3 <==\nNoon & soil\n"


def test_standard_input_is_read(picture: Path) -> None:
    assert run("-", stdin=picture.read_bytes()).stdout == "Noon & soil\n"


def test_outlines_are_drawn(picture: Path, document: Path, tmp_path: Path) -> None:
    assert run("--boxes", str(tmp_path / "out.png"), str(picture)).exit_code == 0
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (700, 320) and drawn.getpixel((40, 40)) == (220, 30, 30)
    run("--boxes", str(tmp_path / "out.png"), "--pages", "1-2", str(document))
    assert (tmp_path / "out-1.png").exists() and (tmp_path / "out-2.png").exists()


@pytest.mark.real_engine
def test_broken_file_costs_its_own_result_only(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDFINITE_OCR_OPTIONS")
    monkeypatch.setenv("CLOUDFINITE_OCR_ENGINE", "rapidocr")
    broken = picture.with_name("a.png")
    broken.write_text("<html>")
    result = run(str(broken), str(picture))
    assert result.stdout == f"==> {broken} <==\n\n==> {picture} <==\n" + "".join(f"{line}\n" for line in LINES)
    assert "a.png: the input is no PNG" in result.stderr
    assert isinstance(result.exception, PagesFailed) and str(result.exception) == "1 page could not be read"


def test_missing_file_and_broken_engine_are_told(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(run("nowhere.png").exception, SetupError)
    monkeypatch.setenv("CLOUDFINITE_OCR_OPTIONS", '{"colour": "red"}')
    assert "does not take its options" in str(run(str(picture)).exception)


@pytest.mark.parametrize(
    ("text", "pages"), [("2", [2]), ("1-3", [1, 2, 3]), ("4-", [4, 5]), ("1,3-9", [1, 3, 4, 5]), ("7", [])]
)
def test_page_ranges_are_understood(text: str, pages: list[int]) -> None:
    assert wanted_pages(parse_pages(text), 5) == pages


@pytest.mark.parametrize("text", ["", "0", "3-1", "a", "1-2-3", "-2", "1,,2"])
def test_wrong_page_range_is_refused(picture: Path, text: str) -> None:
    with pytest.raises(ValueError, match="is no page range"):
        parse_pages(text)
    assert run(f"--pages={text}", str(picture)).exit_code == 2

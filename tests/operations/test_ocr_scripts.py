"""Scripts that RapidOCR's weights lack, read by Tesseract: the real one where it is installed, else a stand-in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from tests.operations.pages import draw_page

from cloudfinite.adapters.ocr import build_engine, engine_table, language_table
from cloudfinite.adapters.ocr_tesseract import Tesseract
from cloudfinite.domain.ocr import OcrMode, OcrRequest, TextLanguage
from cloudfinite.errors import EngineFailed, UnsupportedOption
from cloudfinite.ports import EngineSpec

pytestmark = pytest.mark.real_engine

RUSSIAN = ("Заседание комитета состоится", "Все люди рождаются свободными", "и равными в своём достоинстве")
STAND_IN = """#!{python}
import sys
if sys.argv[1] == "--list-langs":
    print("List of available languages (2):\\nkor\\neng")
    sys.exit()
{action}
count = len(open(sys.argv[1]).read().split())
print("level\\tpage_num\\tblock_num\\tpar_num\\tline_num\\tword_num\\tleft\\ttop\\twidth\\theight\\tconf\\ttext")
for page in range(1, count + 1):
    print("5", page, 1, 1, 1, 1, 20, 10, 60, 30, 95.0, "오늘", sep="\\t")
    print("5", page, 1, 1, 1, 2, 120, 10, 90, 30, 95.0, "회의는", sep="\\t")
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    return write_stand_in(tmp_path)


def write_stand_in(folder: Path, action: str = "") -> Path:
    program = folder / "tesseract"
    program.write_text(STAND_IN.format(python=sys.executable, action=action))
    program.chmod(0o755)
    return program


def test_asked_language_is_read_by_tesseract(stand_in: Path, tmp_path: Path) -> None:
    engine = build_engine(EngineSpec(options={"tesseract": str(stand_in)}))
    draw_page().image.save(tmp_path / "page.png")
    reading = engine.read(tmp_path / "page.png", OcrRequest(language=TextLanguage.KOREAN, wants_characters=True))
    assert [line.text for line in reading.lines] == ["오늘 회의는"] * 4
    assert [letter.text for letter in reading.lines[0].characters] == list("오늘회의는")


def test_normal_page_never_starts_tesseract(tmp_path: Path) -> None:
    program = write_stand_in(tmp_path, "sys.exit(9)")
    engine = build_engine(EngineSpec(options={"tesseract": str(program)}))
    draw_page().image.save(tmp_path / "page.png")
    for language in (TextLanguage.CHINESE, TextLanguage.AUTO, TextLanguage.MIXED, TextLanguage.FRENCH):
        assert len(engine.read(tmp_path / "page.png", OcrRequest(language=language)).lines) == 4


@pytest.mark.parametrize("language", ["rus", "tha", "hi", "ara", "vie"])
def test_language_that_is_not_installed_names_what_to_install(stand_in: Path, tmp_path: Path, language: str) -> None:
    engine = build_engine(EngineSpec(options={"tesseract": str(stand_in)}))
    draw_page().image.save(tmp_path / "page.png")
    with pytest.raises(UnsupportedOption, match=r"install Tesseract with the package tesseract-ocr-[a-z]{3} "):
        engine.read(tmp_path / "page.png", OcrRequest(language=TextLanguage(language)))


@pytest.mark.parametrize("program", ["", "/nowhere/tesseract"])
def test_without_the_program_no_script_is_installed(program: str) -> None:
    assert Tesseract(program).codes == frozenset()


def test_hanging_and_failing_program_is_a_failed_engine(tmp_path: Path) -> None:
    script = Tesseract(str(write_stand_in(tmp_path))).scripts[0]
    crops = [draw_page().image.crop((0, 20, 400, 70))]
    pixels = [np.asarray(crop) for crop in crops]
    hanging = Tesseract(str(write_stand_in(tmp_path, "import time; time.sleep(60)")), timeout_s=0.5)
    with pytest.raises(EngineFailed, match=r"more than 0\.5 s"):
        hanging.read(pixels, script)
    failing = Tesseract(str(write_stand_in(tmp_path, "print('out of ink', file=sys.stderr); sys.exit(3)")))
    with pytest.raises(EngineFailed, match="ended with 3: out of ink"):
        failing.read(pixels, script)


def russian_page(angle_deg: int) -> Image.Image:
    try:
        font = ImageFont.truetype("DejaVuSans.ttf", 34)
    except OSError:
        pytest.skip("DejaVu Sans is not installed")
    image = Image.new("RGB", (800, 280), "white")
    for row, text in enumerate(RUSSIAN):
        ImageDraw.Draw(image).text((40, 30 + 75 * row), text, "black", font)
    return image.rotate(-angle_deg, expand=True)


@pytest.mark.skipif("rus" not in Tesseract().codes, reason="Tesseract's Russian is not installed")
@pytest.mark.parametrize("language", [TextLanguage.CHINESE, TextLanguage.AUTO, TextLanguage.RUSSIAN])
@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270])
def test_script_of_a_page_is_found(tmp_path: Path, language: TextLanguage, angle_deg: int) -> None:
    russian_page(angle_deg).save(tmp_path / "page.png")
    reading = build_engine(EngineSpec()).read(tmp_path / "page.png", OcrRequest(language=language))
    assert [line.text for line in reading.lines] == list(RUSSIAN)
    assert reading.angle_deg == angle_deg


def test_program_is_looked_for_on_the_path() -> None:
    assert bool(Tesseract().codes) == bool(shutil.which("tesseract"))


def test_tables_of_the_engine_name_every_type_and_language(stand_in: Path) -> None:
    assert set(engine_table()) == set(OcrMode)
    languages = language_table(str(stand_in))
    assert set(languages) == set(TextLanguage)
    assert languages["kor"] == "Tesseract kor" and languages["hi"] == "not here: install tesseract-ocr-hin"

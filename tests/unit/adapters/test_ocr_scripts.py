"""Telling a page's script, taking the better reading, and Tesseract's table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cloudfinite.adapters.ocr_orientation import FoundLine, ReadText
from cloudfinite.adapters.ocr_scripts import is_better, is_unread, unread_share, winning_script
from cloudfinite.adapters.ocr_tesseract import BY_LANGUAGE, SCRIPTS, Script, parse_table
from cloudfinite.adapters.pictures import Pixels
from cloudfinite.domain.ocr import TextLanguage

KOREAN, THAI = BY_LANGUAGE[TextLanguage.KOREAN], BY_LANGUAGE[TextLanguage.THAI]
RUSSIAN, VIETNAMESE = BY_LANGUAGE[TextLanguage.RUSSIAN], BY_LANGUAGE[TextLanguage.VIETNAMESE]
LINE = FoundLine(np.zeros((40, 400, 3), dtype=np.uint8), 400.0, is_tall=False, is_flipped=False)
UNREAD = ReadText("    ", 0.93)


@pytest.mark.parametrize(
    ("text", "confidence", "expected"),
    [
        ("Every grain is hard-earned", 0.99, False),
        ("锄禾日当午汗滴禾下", 0.98, False),
        ("    ", 0.93, True),  # Cyrillic is read as blanks, with confidence.
        ("şuncncninquc=cnh", 0.48, True),
        ("舎", 0.9, True),
    ],
)
def test_line_is_unread_where_most_of_it_has_no_letters(text: str, confidence: float, expected: bool) -> None:
    assert is_unread(LINE, ReadText(text, confidence)) is expected


def test_share_of_a_page_goes_by_length() -> None:
    short = FoundLine(np.zeros((40, 100, 3), dtype=np.uint8), 100.0, is_tall=False, is_flipped=False)
    assert unread_share([LINE, short], [UNREAD, ReadText("Noon", 0.99)]) == 0.8
    assert unread_share([], []) == 0.0


def reads(**readings: tuple[str, float]) -> object:
    def read(crops: Sequence[Pixels], script: Script) -> list[ReadText]:
        return [ReadText(*readings.get(script.code, ("", 0.0))) for _ in crops]

    return read


@pytest.mark.parametrize(
    ("readings", "winner"),
    [
        ({"kor": ("오늘 회의는", 0.93), "tha": ("ทดท", 0.7)}, KOREAN),
        ({"kor": ("오늘 회의는", 0.75)}, None),  # Not sure enough.
        ({"kor": ("오늘 회의는", 0.9), "tha": ("ทดท", 0.85)}, None),  # Not clear enough.
        ({"kor": ("12-34 SALE", 0.95)}, None),  # None of its letters.
        ({}, None),
    ],
)
def test_script_must_win_clearly(readings: dict[str, tuple[str, float]], winner: Script | None) -> None:
    assert winning_script([LINE] * 9, [UNREAD] * 9, SCRIPTS, reads(**readings)) == winner  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "engine", "tesseract", "expected"),
    [
        (RUSSIAN, ("MOCKBA MOCKBA", 0.99), ("МОСКВА МОСКВА", 0.97), True),  # Letters that look alike.
        (VIETNAMESE, ("Tt c mi ngui sinh", 0.99), ("Tất cả mọi người sinh", 0.95), True),
        (KOREAN, ("Total 12,000.00", 0.99), ("Total 12,000.00", 0.96), False),
        (KOREAN, ("锄禾日当午汗滴禾", 0.99), ("서울 대로", 0.65), False),
        (KOREAN, ("", 0.0), ("오늘 회의는", 0.93), True),
        (KOREAN, ("", 0.0), ("오늘 회의는", 0.4), False),
    ],
)
def test_better_reading_of_a_line_is_taken(
    script: Script, engine: tuple[str, float], tesseract: tuple[str, float], expected: bool
) -> None:
    assert is_better(LINE, ReadText(*engine), ReadText(*tesseract), script) is expected


def row(page: int, left: int, width: int, confidence: float, text: str) -> str:
    return "\t".join(map(str, ["5", page, 1, 1, 1, 1, left, 10, width, 30, confidence, text]))


def test_table_gives_each_line_its_text_and_places() -> None:
    table = "\n".join(
        ["level\tpage_num", row(2, 10, 50, 90.0, "да"), row(2, 80, 30, 60.0, "нет"), row(9, 0, 1, 1, "x")]
    )
    empty, text = parse_table(table, [100, 100], RUSSIAN)
    assert (empty.text, empty.confidence) == ("", 0.0)
    assert text.text == "да нет" and text.confidence == pytest.approx((2 * 0.9 + 3 * 0.6) / 5)
    assert text.centres == pytest.approx((0.125, 0.375, 0.75, 0.85, 0.95))


def test_blanks_inside_thai_and_korean_words_are_joined() -> None:
    table = "\n".join([row(1, 10, 20, 95, "시"), row(1, 40, 20, 95, "작"), row(1, 90, 20, 95, "합")])
    assert parse_table(table, [200], KOREAN)[0].text == "시작 합"
    assert parse_table(table, [200], RUSSIAN)[0].text == "시 작 합"


@pytest.mark.parametrize("text", ["a\tb", "", "5\t1\t1"])
def test_rows_that_are_no_words_are_passed_over(text: str) -> None:
    assert parse_table(text, [10], THAI)[0].text == ""

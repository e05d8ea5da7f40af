"""ImageOCR without an engine: the wire's forms, which options reach the engine, and how the language is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloudfinite.domain.ocr import OcrMode, OcrRequest, PictureLimits, Quad, Reading, RecognisedLine, TextLanguage
from cloudfinite.errors import InvalidArgument
from cloudfinite.operations import operations
from cloudfinite.operations.image_ocr import Detection, OcrParams, angle_text, recognise, told_language
from cloudfinite.testing_engine import FixedEngine
from cloudfinite.wire.documents import parse_body, read_fields
from cloudfinite.wire.nodes import sorted_by_name, to_json, to_xml, tree
from cloudfinite.wire.operation import LocalFile

GOLDEN = Path(__file__).parents[2] / "golden"
SOURCE = LocalFile(Path("any.png"))
UNIT: Quad = ((0, 0), (1, 0), (1, 1), (0, 1))
TWO_LETTERS = [{"text": "Hi", "box": [10, 5, 30, 20], "confidence": 0.994}]


class RecordingEngine:
    """Reads nothing and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[OcrRequest] = []

    def warm_up(self) -> None: ...

    def read(self, path: Path, request: OcrRequest) -> Reading:
        self.asked.append(request)
        return Reading()


def detect(params: OcrParams, **options: Any) -> Detection:
    return recognise(SOURCE, params, FixedEngine(PictureLimits(), **options))


def seed_lines(first: str) -> list[dict[str, Any]]:
    rows = [
        (98, first, [40, 24, 176, 35]),
        (91, "Sweat drips onto the soil beneath the crops", [40, 81, 164, 30]),
        (97, "Who knows the food on the plate", [40, 129, 164, 33]),
        (99, "Every grain is hard-earned", [39, 181, 165, 34]),
    ]
    return [{"confidence": percent / 100, "text": text, "box": box} for percent, text, box in rows]


def test_detection_is_the_seed_sample_in_xml() -> None:
    found = detect(OcrParams(), lines=seed_lines("Plow the fields at noon"), language="")
    assert to_xml(sorted_by_name(tree("Detection", found))) == (GOLDEN / "detection-seed.xml").read_bytes()


def test_detection_is_the_seed_sample_in_json() -> None:
    found = detect(OcrParams(), lines=seed_lines("Toiling under the midday sun"), language="")
    assert to_json(tree("Detection", found)) == (GOLDEN / "detection-seed.json").read_bytes()


def test_words_are_written_with_their_corners() -> None:
    found = tree("Detection", detect(OcrParams(is_word=True), lines=TWO_LETTERS))
    assert to_xml(sorted_by_name(found)).endswith(
        b"<WordPolygon/><Words><Character>H</Character><Confidence>99</Confidence><WordCoordPoint>"
        b"<WordCoordinate><X>10</X><Y>5</Y></WordCoordinate><WordCoordinate><X>24</X><Y>5</Y></WordCoordinate>"
        b"<WordCoordinate><X>24</X><Y>24</Y></WordCoordinate><WordCoordinate><X>10</X><Y>24</Y></WordCoordinate>"
        b"</WordCoordPoint></Words><Words><Character>i</Character><Confidence>99</Confidence><WordCoordPoint>"
        b"<WordCoordinate><X>25</X><Y>5</Y></WordCoordinate><WordCoordinate><X>39</X><Y>5</Y></WordCoordinate>"
        b"<WordCoordinate><X>39</X><Y>24</Y></WordCoordinate><WordCoordinate><X>25</X><Y>24</Y></WordCoordinate>"
        b"</WordCoordPoint></Words></TextDetections></Detection>"
    )
    (line,) = json.loads(to_json(found))["Detection"]["TextDetections"]
    corners = [{"X": 10, "Y": 5}, {"X": 24, "Y": 5}, {"X": 24, "Y": 24}, {"X": 10, "Y": 24}]
    assert line["Words"][0] == {
        "Character": "H",
        "Confidence": 99,
        "WordCoordPoint": [{"WordCoordinate": corners}],
    }
    assert "WordPolygon" not in line


def test_handwriting_outlines_are_written_with_their_corners() -> None:
    params = OcrParams(mode=OcrMode.HANDWRITING, enable_word_polygon=True)
    found = tree("Detection", detect(params, lines=TWO_LETTERS))
    assert (
        b"<WordPolygon><LeftBottom><X>10</X><Y>24</Y></LeftBottom><LeftTop><X>10</X><Y>5</Y></LeftTop>"
        b"<RightBottom><X>24</X><Y>24</Y></RightBottom><RightTop><X>24</X><Y>5</Y></RightTop></WordPolygon>"
    ) in to_xml(sorted_by_name(found))
    (line,) = json.loads(to_json(found))["Detection"]["TextDetections"]
    assert line["WordPolygon"][0] == {
        "LeftTop": [{"X": 10, "Y": 5}],
        "RightTop": [{"X": 24, "Y": 5}],
        "RightBottom": [{"X": 24, "Y": 24}],
        "LeftBottom": [{"X": 10, "Y": 24}],
    }
    assert line["Words"] == [{"Confidence": 0}]


def test_nothing_found_has_no_lines_and_no_language() -> None:
    found = tree("Detection", detect(OcrParams()))
    assert to_json(found) == b'{"Detection":{"Angel":"0","PdfPageSize":"0","Language":""}}'
    assert to_xml(sorted_by_name(found)) == (
        b"<Detection><Angel>0</Angel><Language/><PdfPageSize>0</PdfPageSize></Detection>"
    )


def test_synchronous_answer_has_no_stand_ins() -> None:
    answer = to_xml(tree("Detection", detect(OcrParams(), lines=TWO_LETTERS), placeholders=False))
    assert b"Word" not in answer


def test_result_survives_the_way_through_the_store() -> None:
    operation = operations()["ImageOCR"]
    found = detect(OcrParams(is_word=True), lines=TWO_LETTERS, angle_deg=90)
    data = json.loads(json.dumps(operation.result_data(found)))
    assert operation.result_value(data) == found


def test_default_parameters_echo_all_but_the_page_number() -> None:
    echo = to_xml(sorted_by_name(tree("ImageOCR", OcrParams())))
    assert echo == (
        b"<ImageOCR><EnableWordPolygon>false</EnableWordPolygon><IsPdf>false</IsPdf><IsWord>false</IsWord>"
        b"<LanguageType>zh</LanguageType><Type>general</Type></ImageOCR>"
    )


def test_sent_page_number_is_echoed() -> None:
    body = b"<ImageOCR><Type>fast</Type><IsPdf>true</IsPdf><PdfPageNumber>2</PdfPageNumber></ImageOCR>"
    params = read_fields(OcrParams, parse_body(body, "ImageOCR"))
    assert params == OcrParams(mode=OcrMode.FAST, is_pdf=True, pdf_page_number=2)
    assert b"<PdfPageNumber>2</PdfPageNumber>" in to_xml(tree("ImageOCR", params))


@pytest.mark.parametrize(
    "node", ["<Type>best</Type>", "<LanguageType>xx</LanguageType>", "<PdfPageNumber>0</PdfPageNumber>"]
)
def test_wrong_parameter_is_refused(node: str) -> None:
    with pytest.raises(InvalidArgument, match=r"ImageOCR\.(Type|LanguageType|PdfPageNumber) is"):
        read_fields(OcrParams, parse_body(f"<ImageOCR>{node}</ImageOCR>".encode(), "ImageOCR"))


ASK_ALL: dict[str, Any] = {
    "language": TextLanguage.JAPANESE,
    "is_pdf": True,
    "pdf_page_number": 3,
    "is_word": True,
    "enable_word_polygon": True,
}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (OcrMode.GENERAL, OcrRequest(OcrMode.GENERAL, TextLanguage.JAPANESE, 3, wants_characters=True)),
        (OcrMode.ACCURATE, OcrRequest(OcrMode.ACCURATE, wants_characters=True)),
        (OcrMode.EFFICIENT, OcrRequest(OcrMode.EFFICIENT)),
        (OcrMode.FAST, OcrRequest(OcrMode.FAST, pdf_page=3)),
        (OcrMode.HANDWRITING, OcrRequest(OcrMode.HANDWRITING, wants_characters=True)),
    ],
)
def test_options_that_do_not_apply_are_ignored(mode: OcrMode, expected: OcrRequest) -> None:
    engine = RecordingEngine()
    recognise(SOURCE, OcrParams(mode=mode, **ASK_ALL), engine)
    assert engine.asked == [expected]


@pytest.mark.parametrize(
    ("angle_deg", "text"),
    [(0.0, "0"), (90, "90"), (359.99, "359.99"), (359.999, "0"), (-0.5, "359.50"), (360.0, "0"), (12.345, "12.35")],
)
def test_angle_is_whole_or_has_two_decimals(angle_deg: float, text: str) -> None:
    assert angle_text(angle_deg) == text


@pytest.mark.parametrize(
    ("text", "asked", "language"),
    [
        ("Every grain is hard-earned", "zh", "zh"),
        ("Größe über 30 cm", "ger", "ger"),
        ("Größe über 30 cm", "auto", "zh"),
        ("锄禾日当午", "ger", "zh"),
        ("锄禾の日当午谁知盘中餐粒粒皆辛苦汗滴禾下土锄禾日当午", "zh", "zh"),
        ("本日の会議は午後三時から始まります", "zh", "jap"),
        ("오늘 회의는 3시 OK", "auto", "kor"),
        ("Заседание", "auto", "rus"),
        ("सभा", "auto", "hi"),
        ("2026-01-05", "zh", "zh"),
    ],
)
def test_language_is_told_from_the_script(text: str, asked: str, language: str) -> None:
    reading = Reading(lines=(RecognisedLine(text, 1.0, UNIT, UNIT),))
    assert told_language(reading, TextLanguage(asked)) == language

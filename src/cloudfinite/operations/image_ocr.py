"""ImageOCR: read the text of one picture or one PDF page.

Wire: Cloud Infinite API documentation, "Task Callback" (OCR), node Operation.Detection and its samples; "Submit OCR
task", node Operation.ImageOCR; "General text recognition", the options' meaning per Type.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cloudfinite.domain.ocr import (
    OcrMode,
    OcrRequest,
    Quad,
    Reading,
    RecognisedCharacter,
    RecognisedLine,
    TextLanguage,
)
from cloudfinite.operations import operation
from cloudfinite.ports import OcrEngine
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile


@dataclass(frozen=True, slots=True)
class OcrParams:
    """What a client may ask for. Options that do not apply to the mode are ignored.

    Wire: our choice – answers echo every option but a PdfPageNumber that was not sent (hence None for its default 1).
    """

    mode: OcrMode = node("Type", default=OcrMode.GENERAL)
    language: TextLanguage = node("LanguageType", default=TextLanguage.CHINESE)
    is_pdf: bool = node("IsPdf", default=False)
    pdf_page_number: int | None = node("PdfPageNumber", default=None, minimum=1)
    is_word: bool = node("IsWord", default=False)
    enable_word_polygon: bool = node("EnableWordPolygon", default=False)


@dataclass(frozen=True, slots=True)
class Applies:
    """Which options a mode honours."""

    language: bool = False
    pdf: bool = False
    words: bool = False
    word_polygons: bool = False


# Wire: "General text recognition", column Description of language-type, ispdf, isword and enable-word-polygon.
APPLIES = {
    OcrMode.GENERAL: Applies(language=True, pdf=True, words=True),
    OcrMode.ACCURATE: Applies(words=True),
    OcrMode.EFFICIENT: Applies(),
    OcrMode.FAST: Applies(pdf=True),
    OcrMode.HANDWRITING: Applies(word_polygons=True),
}


@dataclass(frozen=True, slots=True)
class Corner:
    """One pixel, counted from the picture's top left corner."""

    x: int = node("X")
    y: int = node("Y")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; both its edges count, so width = x_max - x_min + 1."""

    height: int = node("Height")
    width: int = node("Width")
    x: int = node("X")
    y: int = node("Y")


@dataclass(frozen=True, slots=True)
class WordOutline:
    """The four corners of one character of a handwritten line."""

    left_top: Corner = node("LeftTop", json=list)
    right_top: Corner = node("RightTop", json=list)
    right_bottom: Corner = node("RightBottom", json=list)
    left_bottom: Corner = node("LeftBottom", json=list)


@dataclass(frozen=True, slots=True)
class WordCoordinates:
    corners: tuple[Corner, ...] = node("WordCoordinate", many=True, default=())


@dataclass(frozen=True, slots=True)
class Word:
    """One character; all empty, it is the stand-in of a line whose words were not asked for."""

    character: str = node("Character", default="")
    confidence: int = node("Confidence", default=0)
    coordinates: WordCoordinates = node("WordCoordPoint", json=list, default=WordCoordinates())


@dataclass(frozen=True, slots=True)
class TextLine:
    """One recognised line.

    confidence is a whole percentage. corners are four points, clockwise from the text's top left, in pixels of the
    displayed picture; box is in the picture after rotation correction, so it cannot be derived from them.
    """

    confidence: int = node("Confidence")
    text: str = node("DetectedText")
    box: Box = node("ItemPolygon", json=list)
    corners: tuple[Corner, ...] = node("Polygon", many=True)
    outlines: tuple[WordOutline, ...] = node("WordPolygon", many=True, empty_in_xml=True, default=())
    words: tuple[Word, ...] = node("Words", many=True, placeholder=Word(), default=())


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found. No text: no lines and an empty language."""

    angle: str = node("Angel")  # Wire: spelled so on the page, and a string in JSON.
    pdf_page_count: int = node("PdfPageSize", json=str)
    language: str = node("Language", empty_in_json=True)
    lines: tuple[TextLine, ...] = node("TextDetections", many=True, default=())


@operation(
    "ImageOCR",
    service="ai",
    area="AI Content Recognition",
    params=("ImageOCR", OcrParams),
    result=("Detection", Detection),
    engine="ocr",
    can_template=True,
    wraps_json=True,
    process="OCR",
    takes=("picture",),
    run_node="ImageOcrResult",  # Wire: cos-go-sdk-v5, WorkflowExecutionNotifyBody
)
def recognise(source: LocalFile, params: OcrParams, engine: OcrEngine) -> Detection:
    """Read the text of `source`. Raises UnreadableInput or UnsupportedOption."""
    applies = APPLIES[params.mode]
    wants_words = applies.words and params.is_word
    wants_outlines = applies.word_polygons and params.enable_word_polygon
    language = params.language if applies.language else TextLanguage.CHINESE
    reading = engine.read(
        source.path,
        OcrRequest(
            mode=params.mode,
            language=language,
            pdf_page=(params.pdf_page_number or 1) if applies.pdf and params.is_pdf else None,
            wants_characters=wants_words or wants_outlines,
        ),
    )
    return Detection(
        angle=angle_text(reading.angle_deg),
        pdf_page_count=reading.page_count,
        language=told_language(reading, language),
        lines=tuple(_line(line, wants_words, wants_outlines) for line in reading.lines),
    )


def angle_text(angle_deg: float) -> str:
    """In [0, 360), clockwise: an integer if whole, else two decimals.

    Wire: "General text recognition", sample `359.99`; "Task Callback" (OCR), sample `0`.
    """
    rounded = round(angle_deg % 360, 2) % 360
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.2f}"


def _line(line: RecognisedLine, wants_words: bool, wants_outlines: bool) -> TextLine:
    return TextLine(
        confidence=_percent(line.confidence),
        text=line.text,
        box=_box(line.upright_corners),
        corners=_corners(line.corners),
        outlines=tuple(map(_outline, line.characters)) if wants_outlines else (),
        words=tuple(map(_word, line.characters)) if wants_words else (),
    )


def _percent(confidence: float) -> int:
    return max(0, min(100, round(confidence * 100)))


def _corners(quad: Quad) -> tuple[Corner, ...]:
    return tuple(Corner(round(x), round(y)) for x, y in quad)


def _box(quad: Quad) -> Box:
    corners = _corners(quad)
    left, top = min(corner.x for corner in corners), min(corner.y for corner in corners)
    right, bottom = max(corner.x for corner in corners), max(corner.y for corner in corners)
    return Box(height=bottom - top + 1, width=right - left + 1, x=left, y=top)


def _word(character: RecognisedCharacter) -> Word:
    return Word(character.text, _percent(character.confidence), WordCoordinates(_corners(character.corners)))


def _outline(character: RecognisedCharacter) -> WordOutline:
    return WordOutline(*_corners(character.corners))


# --- the language of a text ----------------------------------------------------------------------------------------

# A Unicode name tells the script by its first word.
_SCRIPT_LANGUAGES = {
    "HANGUL": TextLanguage.KOREAN,
    "CYRILLIC": TextLanguage.RUSSIAN,
    "THAI": TextLanguage.THAI,
    "DEVANAGARI": TextLanguage.HINDI,
    "ARABIC": TextLanguage.ARABIC,
}
_KANA = ("HIRAGANA", "KATAKANA")
_HAN = "CJK"
_LATIN_LANGUAGES = frozenset(TextLanguage) - {
    TextLanguage.CHINESE,
    TextLanguage.CHINESE_RARE,
    TextLanguage.AUTO,
    TextLanguage.MIXED,
    TextLanguage.JAPANESE,
    *_SCRIPT_LANGUAGES.values(),
}
# Chinese texts quote a の now and then; Japanese ones have more kana than this everywhere.
_KANA_SHARE_OF_JAPANESE = 0.05


def told_language(reading: Reading, asked: TextLanguage) -> str:
    """The wire's code for what was read: what the engine knows, else what the script tells.

    Wire: our choice – `zh` for Chinese and for Latin text without other evidence; the language that was asked for is
    evidence for Latin text; empty when nothing was found.
    """
    if reading.language is not None:
        return reading.language
    if not reading.lines:
        return ""
    scripts = count_scripts(line.text for line in reading.lines)
    kana = sum(scripts[name] for name in _KANA)
    if kana and kana >= _KANA_SHARE_OF_JAPANESE * (kana + scripts[_HAN]):
        return TextLanguage.JAPANESE
    script, letters = max(((name, scripts[name]) for name in _SCRIPT_LANGUAGES), key=lambda pair: pair[1])
    if letters > scripts[_HAN] and letters * 4 > scripts["LATIN"]:  # Names and numbers beside it are often Latin.
        return _SCRIPT_LANGUAGES[script]
    if asked in _LATIN_LANGUAGES and not scripts[_HAN]:
        return asked
    return TextLanguage.CHINESE


def count_scripts(texts: Iterable[str]) -> Counter[str]:
    """How many letters of each script there are."""
    letters = (character for text in texts for character in text if character.isalpha())
    return Counter(unicodedata.name(character, "").partition(" ")[0].partition("-")[0] for character in letters)

"""What is asked of a text recogniser and what it answers, whichever engine does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Quad: TypeAlias = tuple[Point, Point, Point, Point]
"""Four corners in the text's own order: where it starts at the top, then clockwise as the text is read."""


class OcrMode(StrEnum):
    """How the text is to be read: the wire's values of Type."""

    GENERAL = "general"
    ACCURATE = "accurate"
    EFFICIENT = "efficient"
    FAST = "fast"
    HANDWRITING = "handwriting"


class TextLanguage(StrEnum):
    """The wire's language codes; each of them includes English."""

    CHINESE = "zh"
    CHINESE_RARE = "zh_rare"
    AUTO = "auto"
    MIXED = "mix"
    JAPANESE = "jap"
    KOREAN = "kor"
    SPANISH = "spa"
    FRENCH = "fre"
    GERMAN = "ger"
    PORTUGUESE = "por"
    VIETNAMESE = "vie"
    MALAY = "may"
    RUSSIAN = "rus"
    ITALIAN = "ita"
    DUTCH = "hol"
    SWEDISH = "swe"
    FINNISH = "fin"
    DANISH = "dan"
    NORWEGIAN = "nor"
    HUNGARIAN = "hun"
    THAI = "tha"
    HINDI = "hi"
    ARABIC = "ara"


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What an input may have at most; each is checked before a pixel is decoded.

    size_bytes: the vendor's 7 MiB count after base64, which is three quarters of that in the file. pixels: 300 MB of
    memory at 3 bytes each. A PDF page larger than pixels or sides is drawn smaller, not refused.
    """

    size_bytes: int = 7 * 1024 * 1024 * 3 // 4
    pixels: int = 100_000_000
    side_px: int = 10_000
    pdf_pages: int = 5_000


@dataclass(frozen=True, slots=True)
class OcrRequest:
    """How to read one file: `pdf_page` is the page (from 1) when a PDF is allowed, None when it is not."""

    mode: OcrMode = OcrMode.GENERAL
    language: TextLanguage = TextLanguage.CHINESE
    pdf_page: int | None = None
    wants_characters: bool = False


@dataclass(frozen=True, slots=True)
class RecognisedCharacter:
    text: str
    confidence: float
    corners: Quad


@dataclass(frozen=True, slots=True)
class RecognisedLine:
    """One line of text; confidence is 0 to 1.

    corners are in pixels of the displayed picture (EXIF applied), the outermost pixels included; upright_corners are
    the same in the picture after rotation correction. Characters only when asked for, without blanks.
    """

    text: str
    confidence: float
    corners: Quad
    upright_corners: Quad
    characters: tuple[RecognisedCharacter, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, in reading order.

    angle_deg: how far the displayed picture is turned clockwise from upright. page_count: of a PDF, else 0. language:
    the wire's code when the engine knows it, None to have it told from the text.
    """

    lines: tuple[RecognisedLine, ...] = ()
    angle_deg: float = 0.0
    page_count: int = 0
    language: str | None = None

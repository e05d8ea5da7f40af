"""An OCR engine that reads the same lines from every file: for tests that are about everything but recognition.

EngineSpec("fixed", {"lines": [{"text": "Hello", "box": [40, 24, 176, 35]}]})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudfinite.domain.ocr import OcrRequest, PictureLimits, Quad, Reading, RecognisedCharacter, RecognisedLine


class FixedEngine:
    """Implements `ports.OcrEngine` without loading anything.

    lines: mappings with text, box (x, y, width, height in pixels; both edges count) and confidence (0 to 1, default
    0.99). Each line's box is divided evenly among its characters when these are asked for.
    """

    def __init__(
        self,
        limits: PictureLimits,
        *,
        lines: Sequence[Mapping[str, Any]] = (),
        angle_deg: float = 0.0,
        language: str | None = None,
        page_count: int = 0,
    ) -> None:
        self._lines = [_line(str(line["text"]), line["box"], line.get("confidence", 0.99)) for line in lines]
        self._angle_deg, self._language, self._page_count = angle_deg, language, page_count

    def warm_up(self) -> None:
        """Nothing to do."""

    def read(self, path: Path, request: OcrRequest) -> Reading:
        return Reading(tuple(self._lines), self._angle_deg, self._page_count, self._language)


def _line(text: str, box: Sequence[int], confidence: float) -> RecognisedLine:
    x, y, width, height = box
    corners = _corners(x, y, x + width - 1, y + height - 1)
    characters = tuple(
        RecognisedCharacter(
            character,
            confidence,
            _corners(x + index * width // len(text), y, x + (index + 1) * width // len(text) - 1, y + height - 1),
        )
        for index, character in enumerate(text)
        if not character.isspace()
    )
    return RecognisedLine(text, confidence, corners, corners, characters)


def _corners(left: float, top: float, right: float, bottom: float) -> Quad:
    return (left, top), (right, top), (right, bottom), (left, bottom)

"""Tesseract, for the scripts that RapidOCR's weights lack: cut-out lines in, their text and confidence out.

Driven as a program, so that nothing needs compiling and its memory is its own: one call reads many lines. Debian and
most systems carry it with one package of language data per script.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from cloudfinite.adapters.ocr_orientation import ReadText
from cloudfinite.adapters.pictures import Pixels
from cloudfinite.domain.ocr import TextLanguage
from cloudfinite.errors import EngineFailed

_LETTERS_PX = 48  # Measured: 32, 48 and 64 read alike; 48 is what RapidOCR's recogniser sees, too.
_BORDER_PX = 10  # Tesseract misses letters that touch the edge.
_LONGEST_PX = 8_000
_LEAST_GAP = 0.28  # Of the letters' height, between words; inside them up to 0.27, between them from 0.29.
_LIST_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Script:
    """What Tesseract may read: its code for the language data, Debian's package, the name that a person knows.

    unicode_name: the first word of its letters' Unicode names. joins_words: Tesseract finds blanks inside words (Thai
    writes none, Korean few), so they are told from the gaps.
    """

    language: TextLanguage | None
    code: str
    title: str
    unicode_name: str
    joins_words: bool = False

    @property
    def package(self) -> str:
        return f"tesseract-ocr-{self.code}"

    def letter_share(self, text: str) -> float:
        """The share of its letters that are of this script."""
        letters = [character for character in text if unicodedata.category(character)[0] in "LM"]
        own = sum(unicodedata.name(letter, "").startswith(self.unicode_name) for letter in letters)
        return own / len(letters) if letters else 0.0


# PP-OCRv6 small has none of these letters (Vietnamese: not all). The wire has no code for those without a language.
SCRIPTS = (
    Script(TextLanguage.KOREAN, "kor", "Korean", "HANGUL", joins_words=True),
    Script(TextLanguage.RUSSIAN, "rus", "Russian", "CYRILLIC"),
    Script(TextLanguage.ARABIC, "ara", "Arabic", "ARABIC"),
    Script(TextLanguage.THAI, "tha", "Thai", "THAI", joins_words=True),
    Script(TextLanguage.HINDI, "hin", "Hindi", "DEVANAGARI"),
    Script(TextLanguage.VIETNAMESE, "vie", "Vietnamese", "LATIN"),
    Script(None, "heb", "Hebrew", "HEBREW"),
    Script(None, "ben", "Bengali", "BENGALI"),
    Script(None, "tam", "Tamil", "TAMIL"),
    Script(None, "tel", "Telugu", "TELUGU"),
)
BY_LANGUAGE: Mapping[TextLanguage, Script] = {script.language: script for script in SCRIPTS if script.language}


class Tesseract:
    """The installed program; `program` is its name or path, "" for none."""

    def __init__(self, program: str = "tesseract", *, timeout_s: float = 40.0) -> None:
        self._program = (shutil.which(program) or "") if program else ""
        self._timeout_s = timeout_s

    @cached_property
    def codes(self) -> frozenset[str]:
        """The language data that is installed; empty without the program."""
        if not self._program:
            return frozenset()
        # It prints the list to the one or the other channel, by version.
        answer = self._run(["--list-langs"], _LIST_WAIT_S)
        return frozenset(line.strip() for line in answer.splitlines()[1:])

    @property
    def scripts(self) -> tuple[Script, ...]:
        return tuple(script for script in SCRIPTS if script.code in self.codes)

    def read(self, crops: Sequence[Pixels], script: Script, *, with_english: bool = False) -> list[ReadText]:
        """Read lines that lie upright; one that it cannot read is an empty text of confidence 0."""
        if not crops:
            return []
        code = f"{script.code}+eng" if with_english and "eng" in self.codes else script.code
        with tempfile.TemporaryDirectory(prefix="cloudfinite-ocr-") as name:
            folder = Path(name)
            widths = [_write_line(folder / f"{index}.pgm", crop) for index, crop in enumerate(crops)]
            listed = folder / "lines.txt"
            listed.write_text("\n".join(str(folder / f"{index}.pgm") for index in range(len(crops))))
            # 7: the picture is one line of text.
            table = self._run([str(listed), "stdout", "-l", code, "--psm", "7", "--dpi", "200", "tsv"], self._timeout_s)
        return parse_table(table, widths, script)

    def _run(self, arguments: Sequence[str], timeout_s: float) -> str:
        environment = {
            "PATH": os.defpath,
            "OMP_THREAD_LIMIT": "1",  # One process, one core; its threads are slower than one alone.
            "LC_ALL": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name == "TESSDATA_PREFIX"},
        }
        try:
            with subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            ) as process:
                if sys.platform == "linux":
                    # So that it ends even if this process is killed before it.
                    most_s = int(timeout_s) + 1
                    resource.prlimit(process.pid, resource.RLIMIT_CPU, (most_s, most_s))
                try:
                    output, errors = process.communicate(timeout=timeout_s)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
        except subprocess.TimeoutExpired as exc:
            raise EngineFailed(f"tesseract needed more than {timeout_s:g} s") from exc
        except OSError as exc:
            raise EngineFailed(f"tesseract cannot be started: {exc}") from exc
        if process.returncode:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise EngineFailed(f"tesseract ended with {process.returncode}: {' '.join(last)}")
        return (output or errors).decode(errors="replace")


def _write_line(path: Path, crop: Pixels) -> int:
    """Write the line as Tesseract reads it best; returns the width of its text in pixels."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    ratio = _LETTERS_PX / grey.shape[0]
    width: int = min(max(1, round(grey.shape[1] * ratio)), _LONGEST_PX)
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(grey, (width, _LETTERS_PX), interpolation=method)
    ground = int(np.median(np.concatenate([scaled[0], scaled[-1]])))
    edge = _BORDER_PX
    framed = cv2.copyMakeBorder(scaled, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=ground)
    # PGM: nothing to compress, nothing to decompress.
    path.write_bytes(b"P5 %d %d 255\n" % (framed.shape[1], framed.shape[0]) + framed.tobytes())
    return width


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    confidence: float
    start_px: int
    end_px: int


def parse_table(table: str, widths: Sequence[int], script: Script) -> list[ReadText]:
    """The texts of the lines from Tesseract's table, in which each line is a page; widths are in its pixels."""
    words: list[list[_Word]] = [[] for _ in widths]
    for row in table.splitlines():
        columns = row.split("\t")
        if len(columns) != 12 or columns[0] != "5" or not columns[11].strip():
            continue
        page, left, width = int(columns[1]), int(columns[6]) - _BORDER_PX, int(columns[8])
        confidence = min(max(float(columns[10]) / 100, 0.0), 1.0)
        if 1 <= page <= len(words):
            words[page - 1].append(_Word(columns[11].strip(), confidence, left, left + width))
    return [_joined(found, width, script) for found, width in zip(words, widths, strict=True)]


def _joined(words: Sequence[_Word], width_px: int, script: Script) -> ReadText:
    text = ""
    centres: list[float] = []
    confidences: list[float] = []
    for index, word in enumerate(words):
        gap_px = word.start_px - words[index - 1].end_px if index else 0
        if index and not (script.joins_words and gap_px < _LEAST_GAP * _LETTERS_PX):
            text += " "
        text += word.text
        step = (word.end_px - word.start_px) / len(word.text)
        for place in range(len(word.text)):
            centre = (word.start_px + (place + 0.5) * step) / width_px
            centres.append(min(max(centre, 0.0), 1.0))
            confidences.append(word.confidence)
    mean = sum(confidences) / len(confidences) if confidences else 0.0
    return ReadText(text, mean, tuple(centres), tuple(confidences))

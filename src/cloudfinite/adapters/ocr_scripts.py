"""Which script a page is written in, and which engine's reading of a line is the better one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloudfinite.adapters.ocr_orientation import FoundLine, ReadText, half_turn
from cloudfinite.adapters.ocr_tesseract import Script
from cloudfinite.adapters.pictures import Pixels

_LEAST_SCORE = 0.6
# Letters that a line of its length has at the least, as a share of what fits if each were as wide as the line is high.
# Han characters fill 0.8, Latin letters 1.5; the recogniser takes unknown letters for blanks, and is sure of it.
_LEAST_FILLED = 0.35
_SAMPLE_LINES = 4
_LEAST_CONFIDENCE = 0.8  # Of the winner. Measured: right scripts 0.89 to 0.97; wrong ones up to 0.76 (Thai), else 0.6.
_LEAST_MARGIN = 0.1
_LEAST_SHARE = 0.5
_LEAST_TAKEN = 0.6
_LEAST_SHARE_TAKEN = 0.2  # Names and numbers beside the script's own letters are often Latin.
_MOST_LOST = 0.15

ReadScript = Callable[[Sequence[Pixels], Script], list[ReadText]]


def is_unread(line: FoundLine, text: ReadText) -> bool:
    """Whether the engine had no characters for most of the line."""
    letters = sum(not character.isspace() for character in text.text)
    fitting = line.length_px / max(min(line.crop.shape[:2]), 1)
    return text.confidence < _LEAST_SCORE or letters < _LEAST_FILLED * fitting


def unread_share(lines: Sequence[FoundLine], texts: Sequence[ReadText]) -> float:
    """How much of the page's text, by length, is unread."""
    total = sum(line.length_px for line in lines)
    unread = sum(line.length_px for line, text in zip(lines, texts, strict=True) if is_unread(line, text))
    return unread / total if total else 0.0


def winning_script(
    lines: Sequence[FoundLine], texts: Sequence[ReadText], scripts: Sequence[Script], read: ReadScript
) -> Script | None:
    """The script that reads a few of the unread lines clearly better than all others; None when none does.

    Both ways up are tried: whether the page is turned cannot be told before its script is known.
    """
    unread = [line for line, text in zip(lines, texts, strict=True) if is_unread(line, text)]
    sample = sorted(unread, key=lambda line: -line.length_px)[:_SAMPLE_LINES]
    if not sample:
        return None
    crops = [line.crop for line in sample]
    both_ways = [*crops, *(half_turn(crop) for crop in crops)]
    ranked: list[tuple[float, str, Script, str]] = []
    for script in scripts:
        read_both = read(both_ways, script)
        ways = read_both[: len(crops)], read_both[len(crops) :]
        confidence, text = max((_confidence(way, crops), " ".join(text.text for text in way)) for way in ways)
        ranked.append((confidence, script.code, script, text))
    ranked.sort(key=lambda entry: entry[:2], reverse=True)
    if not ranked:
        return None
    confidence, _, best, text = ranked[0]
    is_clear = len(ranked) == 1 or confidence - ranked[1][0] >= _LEAST_MARGIN
    is_own = best.letter_share(text) >= _LEAST_SHARE
    return best if confidence >= _LEAST_CONFIDENCE and is_clear and is_own else None


def _confidence(texts: Sequence[ReadText], crops: Sequence[Pixels]) -> float:
    """Mean confidence, long lines counting more."""
    lengths: list[float] = [max(crop.shape[:2]) for crop in crops]
    return sum(text.confidence * length for text, length in zip(texts, lengths, strict=True)) / sum(lengths)


def is_better(line: FoundLine, text: ReadText, of_script: ReadText, script: Script) -> bool:
    """Whether the script's reading of a line is to be taken rather than the engine's."""
    if of_script.confidence < _LEAST_TAKEN or script.letter_share(of_script.text) < _LEAST_SHARE_TAKEN:
        return False
    return is_unread(line, text) or of_script.confidence >= text.confidence - _MOST_LOST

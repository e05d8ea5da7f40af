"""The repository as the documentation's tests see it: its files, and the parts of a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "tools", "examples", "docs", "bench", ".ci")
TEXT_ENDINGS = frozenset(
    {".py", ".md", ".toml", ".lock", ".xml", ".json", ".http", ".html", ".css", ".js", ".cfg", ".ini", ".txt", ""}
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_NOT_A_WORD = re.compile(r"[^\w\- ]")


def pages() -> list[Path]:
    """All Markdown pages for people."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def text_files() -> Iterator[Path]:
    """Every text file that belongs to the project, caches and environments apart."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT_ENDINGS)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT_ENDINGS and "__pycache__" not in path.parts:
                yield path


def code_blocks(page: Path, language: str) -> list[str]:
    return [code for name, code in _FENCE.findall(page.read_text()) if name == language]


def links(page: Path) -> list[str]:
    """The targets of all links outside code blocks."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """The names by which the headings of a page can be linked."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {_NOT_A_WORD.sub("", heading.lower()).replace(" ", "-") for heading in headings}

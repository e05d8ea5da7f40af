"""What commands print: the API's answer as JSON, or tables and facts for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

_PIPE_WIDTH = 1_000  # Nothing is cut where a program reads.


class Output:
    """Prints to standard output. `as_json` leaves out all that is for people."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, answer: Mapping[str, Any], print_answer: Callable[[], None]) -> None:
        """An answer as it came where JSON was asked for, else whatever `print_answer` prints for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        else:
            print_answer()

    def say(self, answer: Mapping[str, Any], sentence: str) -> None:
        """As `show`, with one sentence for people."""
        self.show(answer, lambda: self.line(sentence))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """Rows below their columns' names; `empty` is the sentence for none."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text(plain(cell), overflow="fold") for cell in row))
        if table.row_count:
            self._print(table)
        else:
            self.line(empty)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Names and values; empty values are left out."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in facts.items():
            if value not in (None, ""):
                table.add_row(Text(name, style="bold"), Text(plain(value), overflow="fold"))
        self._print(table)

    def line(self, text: str) -> None:
        sys.stdout.write(plain(text) + "\n")

    def _print(self, thing: object) -> None:
        from rich.console import Console

        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        Console(width=width, highlight=False, markup=False).print(thing)


def plain(value: object) -> str:
    """Text that cannot steer a terminal: keys and messages come from outside."""
    text = "" if value is None else str(value)
    return "".join(" " if one.isspace() else one if one.isprintable() else "\ufffd" for one in text)


def local_time(text: str | None) -> str:
    """An API time as the clock on the wall here."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def seconds_between(start: str | None, end: str | None) -> str:
    if not start or not end:
        return ""
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.2f} s"

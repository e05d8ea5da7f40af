"""Rows of a benchmark: printed as a table with their bars, and written as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, None where it could not be taken. `least` and `most` are its bar; both None: reported without one."""

    name: str
    value: float | None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def bar(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:g}"
        return f"≤ {self.most:g}" if self.most is not None else ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "skipped"
        if self.least is None and self.most is None:
            return ""
        is_met = (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)
        return "met" if is_met else "MISSED"


def skipped(name: str, reason: str) -> Row:
    return Row(name, None, note=reason)


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def show(rows: Iterable[Row], out: Path, command: str) -> None:
    """Print a table in Markdown and write `out`."""
    rows = list(rows)
    print(f"\n{command}: {machine()}\n")
    print("| what | figure | bar | | note |\n|---|---|---|---|---|")
    for row in rows:
        value = "–" if row.value is None else f"{row.value:,.4g} {row.unit}"
        print(f"| {row.name} | {value} | {row.bar} | {row.verdict} | {row.note} |")
    write(rows, out, command)


def write(rows: Iterable[Row], out: Path, command: str) -> None:
    """Write `out`, from which `tools/write_benchmarks.py` makes the README's table."""
    report = {"command": command, **machine(), "rows": [{**asdict(row), "verdict": row.verdict} for row in rows]}
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(report, indent=2, ensure_ascii=False))

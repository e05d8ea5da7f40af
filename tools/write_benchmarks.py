"""Write the benchmark table of README.md from reports of `make bench` and `make bench-long`.

    python tools/write_benchmarks.py bench-out/short.json bench-out/long.json

A later report's figure replaces an earlier one of the same name; each row tells its command, machine, commit and date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from write_docs import between

README = Path(__file__).parents[1] / "README.md"
_HEAD = "| what | figure | bar | met | taken with |\n| --- | --- | --- | --- | --- |"
_MET = {"met": "yes", "MISSED": "**no**", "skipped": "not taken"}


def table(reports: Iterable[dict[str, Any]]) -> str:
    lines = {row["name"]: _line(row, report) for report in reports for row in report["rows"]}
    return "\n".join([_HEAD, *lines.values()])


def _line(row: dict[str, Any], report: dict[str, Any]) -> str:
    figure = "–" if row["value"] is None else f"{row['value']:,.4g} {row['unit']}".strip()
    bar = ""
    if row["least"] is not None:
        bar = f"≥ {row['least']:g}"
    elif row["most"] is not None:
        bar = f"≤ {row['most']:g}"
    taken = f"`{report['command']}`, {report['cores']} cores, {report['commit']}, {report['date']}"
    note = f" ({row['note']})" if row["note"] else ""
    return f"| {row['name']}{note} | {figure} | {bar} | {_MET.get(row['verdict'], '')} | {taken} |"


def main() -> int:
    if len(sys.argv) < 2:
        sys.stderr.write(__doc__ or "")
        return 2
    reports = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    README.write_text(between(README.read_text(), "benchmarks", table(reports), README.name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

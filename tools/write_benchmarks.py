"""Write the benchmark tables from reports of `make bench` and `make bench-long`.

    python tools/write_benchmarks.py bench-out/short.json bench-out/long.json

README.md gets the figures that have a bar, each class of pages apart; docs/benchmarks.md gets all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from write_docs import between

ROOT = Path(__file__).parents[1]
_HEAD = "| what | figure | bar | met |\n| --- | --- | --- | --- |"
_MET = {"met": "yes", "MISSED": "**no**", "skipped": "not taken"}
_CLASS = ": word F1 of "

Row = dict[str, Any]


def tables(reports: Iterable[dict[str, Any]], keeps: Callable[[Row], bool]) -> str:
    return "\n\n".join(table for report in reports if (table := _table(report, keeps)))


def _table(report: dict[str, Any], keeps: Callable[[Row], bool]) -> str:
    taken = (
        f"`{report['command']}` on {report['cores']} cores ({report['machine']}, Python {report['python']}), commit "
        f"{report['commit']}, {report['date']}:"
    )
    lines = [_line(row) for row in report["rows"] if keeps(row)]
    return "\n".join([taken, "", _HEAD, *lines]) if lines else ""


def _line(row: Row) -> str:
    figure = "–" if row["value"] is None else f"{row['value']:,.4g} {row['unit']}".strip()
    bar = ""
    if row["least"] is not None:
        bar = f"≥ {row['least']:.4g}"
    elif row["most"] is not None:
        bar = f"≤ {row['most']:.4g}"
    note = f" ({row['note']})" if row["note"] else ""
    return f"| {row['name']}{note} | {figure} | {bar} | {_MET.get(row['verdict'], '')} |"


def is_headline(row: Row) -> bool:
    return bool(row["verdict"]) and (_CLASS not in row["name"] or row["name"].endswith("all pages"))


def main() -> int:
    if len(sys.argv) < 2:
        sys.stderr.write(__doc__ or "")
        return 2
    reports = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    readme = ROOT / "README.md"
    readme.write_text(between(readme.read_text(), "benchmarks", tables(reports, is_headline), readme.name))
    title = (
        "# Benchmarks\n\nAll figures of the last reports; [README.md](../README.md) shows those that have a bar.\n\n"
    )
    (ROOT / "docs/benchmarks.md").write_text(f"{title}{tables(reports, lambda row: True)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

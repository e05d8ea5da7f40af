"""All benchmarks: `python bench/run.py short` (make bench) or `long` (make bench-long)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.report import Row, show

SHORT = {"bench.idle": {}, "bench.noop": {}, "bench.store": {}, "bench.ocr": {}}
LONG = {"bench.store": {"rows": 1_000_000}, "bench.objects": {}}


def main() -> int:
    plan = {"short": SHORT, "long": LONG}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if plan is None:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    rows: list[Row] = []
    for name, arguments in plan.items():
        print(f"{name} …", flush=True)
        rows += importlib.import_module(name).measure(**arguments)
    show(rows, Path(f"bench-out/{sys.argv[1]}.json"), f"make bench{'' if plan is SHORT else '-long'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

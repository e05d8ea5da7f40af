"""All benchmarks: `python bench/run.py short` (make bench) or `long` (make bench-long)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.report import Row, show, write

SHORT: dict[str, dict[str, int]] = {
    "bench.idle": {},
    "bench.noop": {},
    "bench.deliver": {},
    "bench.against_celery": {"jobs": 5_000},
    "bench.store": {},
    "bench.recovery": {},
    "bench.workers": {},
    "bench.workflow": {},
    "bench.ocr": {},
}
LONG: dict[str, dict[str, int]] = {
    "bench.store": {"rows": 1_000_000},
    "bench.million": {},
    "bench.deliver": {"is_long": True},
    "bench.batch": {},
    "bench.objects": {},
    "bench.object_stores": {},
    "bench.ocr": {"rounds": 4, "every": 1},
    "bench.soak": {},
}


def main() -> int:
    plan = {"short": SHORT, "long": LONG}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if plan is None:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    rows: list[Row] = []
    out, command = Path(f"bench-out/{sys.argv[1]}.json"), f"make bench{'' if plan is SHORT else '-long'}"
    for name, arguments in plan.items():
        print(f"{name} …", flush=True)
        rows += importlib.import_module(name).measure(**arguments)
        write(rows, out, command)  # what was taken is kept, whatever happens to the next
    show(rows, out, command)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""A server that kills itself with SIGKILL at a chosen statement.

Run as `python -m tests.support.crashing PATTERN POINT`. From the first statement that starts with PATTERN on, the
events of the whole process are counted: each statement and each COMMIT, in all transactions. Before event number POINT
the process is gone: so POINT 0, 1, 2 … are the gaps between each pair of statements from there to the end of what
follows. Nothing in the product knows of this.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from cloudfinite.app import serve
from cloudfinite.settings import read_settings


class CrashPoint:
    def __init__(self, pattern: str, point: int) -> None:
        self._pattern = pattern
        self._point = point
        self._is_armed = False
        self._seen = 0

    def statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if " ".join(statement.split()).startswith(self._pattern):
            self._is_armed = True
        self._count()

    def commit(self, _connection: Any) -> None:
        self._count()

    def _count(self) -> None:
        if not self._is_armed:
            return
        if self._seen == self._point:
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen += 1


def main() -> None:
    point = CrashPoint(sys.argv[1], int(sys.argv[2]))
    event.listen(Engine, "before_cursor_execute", point.statement)
    event.listen(Engine, "commit", point.commit)
    serve(read_settings())


if __name__ == "__main__":
    main()

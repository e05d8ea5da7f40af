"""What a watch remembers: each file with its size and time, and whether it was sent; a small SQLite file.

Only the file of one look is in memory, however many there are. A file is marked before it is sent, so that after a
crash in between the object is asked whether it arrived.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from cloudfinite.errors import SetupError

_COMMIT_EACH = 1_000


class Stage(IntEnum):
    """How far a file is. SEEN: not yet known to be complete; SENDING: it may have arrived."""

    SEEN = 0
    SENDING = 1
    SENT = 2


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one content of a file from another."""

    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """`failures`: tries in a row that failed; `next_try_s`: Unix time before which it is not tried again."""

    version: Version
    stage: Stage
    failures: int = 0
    next_try_s: float = 0.0


class WatchState:
    """The file at `path`, for one target. Raises SetupError when it is another target's, or another watch has it."""

    def __init__(self, path: Path, target: str) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
            # The lock of the first write is kept: a second watch on the folder would send everything again.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, stage INTEGER, "
                "failures INTEGER, next_try REAL) WITHOUT ROWID"
            )
            self._db.execute("CREATE TABLE IF NOT EXISTS target (name TEXT)")
            known = self._db.execute("SELECT name FROM target").fetchone()
            if known is None:
                self._db.execute("INSERT INTO target VALUES (?)", (target,))
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as exc:
            raise SetupError(
                f"{path} cannot be used: {exc}", "is another watch running on the folder? --state names another file"
            ) from exc
        except sqlite3.DatabaseError as exc:
            raise SetupError(f"{path} is no state file of a watch: {exc}", "name another with --state") from exc
        if known is not None and known[0] != target:
            self._db.close()
            raise SetupError(f"{path} remembers what went to {known[0]}, not {target}", "name another with --state")
        self._waiting = 0

    def get(self, path: str) -> Remembered | None:
        row = self._db.execute(
            "SELECT size, mtime, stage, failures, next_try FROM file WHERE path = ?", (os.fsencode(path),)
        ).fetchone()
        return Remembered(Version(row[0], row[1]), Stage(row[2]), row[3], row[4]) if row else None

    def put(self, path: str, item: Remembered) -> None:
        """Remember; durable after `commit`, or some more of them."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._db.execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)",
            (
                os.fsencode(path),
                item.version.size_bytes,
                item.version.mtime_ns,
                item.stage,
                item.failures,
                item.next_try_s,
            ),
        )
        self._waiting += 1
        if self._waiting >= _COMMIT_EACH:
            self.commit()

    def commit(self) -> None:
        # The connection knows, whatever a Ctrl-C between two lines left undone here.
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._waiting = 0

    def forget(self, path: str) -> None:
        self.commit()
        self._db.execute("DELETE FROM file WHERE path = ?", (os.fsencode(path),))

    def paths(self) -> Iterator[str]:
        """All remembered ones, in order; forgetting them meanwhile is fine."""
        last = b""
        while rows := self._db.execute(
            "SELECT path FROM file WHERE path > ? ORDER BY path LIMIT ?", (last, _COMMIT_EACH)
        ).fetchall():
            for (path,) in rows:
                yield os.fsdecode(path)
            last = rows[-1][0]

    def close(self) -> None:
        self.commit()
        self._db.close()

"""The SQLite file: what a start says of one that cannot be used, and how its log is kept short."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cloudfinite.adapters.store import SqliteStore, open_store
from cloudfinite.errors import SetupError


def test_too_old_sqlite_is_named_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(SetupError, match=r"3\.34\.1; 3\.35 or later"):
        open_store("", tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_the_log_is_moved_into_the_file_beside_the_commits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x.db")

    def keep(unit: Any, first: int) -> None:
        rows = [{"name": str(number), "value": "x" * 1_000} for number in range(first, first + 1_500)]
        unit.connection.execute(text("INSERT INTO mark (name, value) VALUES (:name, :value)"), rows)

    before = (tmp_path / "x.db").stat().st_size
    for first in range(0, 4_500, 1_500):
        await store.run(keep, first)
    async with asyncio.timeout(20):
        while (tmp_path / "x.db").stat().st_size < before + 2_000_000:
            await asyncio.sleep(0.01)
    assert (tmp_path / "x.db-wal").stat().st_size > 0  # the last connection has not done it by closing
    await store.close()


@pytest.mark.parametrize("count", [1, 2, 256, 257, 1_000])
async def test_list_of_any_length_is_inserted_whole(tmp_path: Path, count: int) -> None:
    store = SqliteStore(tmp_path / "x.db")
    statement = text("INSERT INTO mark (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
    rows = [{"value": f"value {number}", "name": f"name {number}"} for number in range(count)]

    def keep(unit: Any) -> tuple[int, int]:
        db = unit.connection
        return db.execute(statement, rows).rowcount, db.execute(statement, [*rows, *rows]).rowcount

    def kept(unit: Any) -> dict[str, str]:
        return {row.name: row.value for row in unit.connection.execute(text("SELECT name, value FROM mark"))}

    assert await store.run(keep) == (count, 0)
    assert await store.read(kept) == {row["name"]: row["value"] for row in rows}
    await store.close()

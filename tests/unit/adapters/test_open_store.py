"""What a start says of a database that cannot be used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cloudfinite.adapters.store import open_store
from cloudfinite.errors import SetupError


def test_too_old_sqlite_is_named_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(SetupError, match=r"3\.34\.1; 3\.35 or later"):
        open_store("", tmp_path)
    assert list(tmp_path.iterdir()) == []

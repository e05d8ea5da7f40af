"""A process killed, or out of disk, while it replaces an object leaves the old one or the new one, whole."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from tests.crash import put_and_die
from tests.crash.put_and_die import BUCKET, KEY, NEW, OLD

from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.store import SqliteStore
from cloudfinite.service.keepers import stream_bytes
from cloudfinite.service.object_files import ObjectFiles
from cloudfinite.service.objects import ObjectService

SCRIPT = Path(put_and_die.__file__)


def run_child(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class Survivor:
    """The folder as the next process finds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "objects"
        self.local = LocalObjects(self.folder)
        self.store = SqliteStore(folder / "store.db", synchronous="OFF")
        self.files = ObjectFiles(self.store, self.local)
        self.objects = ObjectService(self.files, retain_s=0)

    async def read(self) -> bytes:
        found = await self.objects.locate_object(BUCKET, KEY)
        return b"".join([chunk async for chunk in stream_bytes(found, 0, found.item.size_bytes)])

    async def last_event(self) -> int:
        """The size that the last event tells; its object's bytes are OLD or NEW."""
        events = await self.store.run(lambda tx: tx.events.take(1_000_000))
        return events[-1].size_bytes

    async def clean(self) -> int:
        """Collect everything whatever its age; returns the size of what is left."""
        await self.objects.collect_garbage()
        await self.files.collect_orphans(age_s=-1)
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    async def close(self) -> None:
        await self.store.close()
        self.local.close()


@asynccontextmanager
async def survived(folder: Path) -> AsyncIterator[Survivor]:
    survivor = Survivor(folder)
    try:
        yield survivor
    finally:
        await survivor.close()


@pytest.mark.crash
@pytest.mark.parametrize(
    ("act", "point", "expected"),
    [
        ("put", "before fsync", OLD),
        ("put", "after fsync", OLD),
        ("put", "before rename", OLD),
        ("put", "after rename", OLD),
        ("put", "before sync_folder", OLD),
        ("put", "before commit", OLD),
        ("put", "after commit", NEW),
        ("complete", "before commit", OLD),
        ("complete", "after commit", NEW),
    ],
)
async def test_killed_at_a_named_instant(tmp_path: Path, act: str, point: str, expected: bytes) -> None:
    assert run_child(tmp_path, act, point).returncode == -9
    async with survived(tmp_path) as survivor:
        assert await survivor.read() == expected
        assert await survivor.last_event() == len(expected)
        parts_bytes = len(NEW) if (act, point) == ("complete", "before commit") else 0
        assert await survivor.clean() == len(expected) + parts_bytes
        assert await survivor.read() == expected


@pytest.mark.crash
async def test_full_disk_answers_5xx_and_keeps_the_old_object(tmp_path: Path) -> None:
    child = run_child(tmp_path, "fill", "")
    assert (child.stdout.strip(), child.returncode) == ("503", 0), child.stderr
    async with survived(tmp_path) as survivor:
        assert list((tmp_path / "objects" / "tmp").iterdir()) == []
        assert await survivor.read() == OLD
        assert await survivor.clean() == len(OLD)


@pytest.mark.crash
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 100))])
async def test_killed_at_any_instant(tmp_path: Path, seed: int) -> None:
    delay_s = Random(seed).uniform(0, 0.05)
    child = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path), "alternate", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(delay_s)  # the kill shall come anywhere, not where a line was printed
    child.kill()
    child.communicate()
    async with survived(tmp_path) as survivor:
        found = await survivor.read()
        assert found in (OLD, NEW)
        assert await survivor.last_event() == len(found)
        assert await survivor.clean() == len(found)
        assert await survivor.read() == found

"""A consistent copy of everything while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cloudfinite.service.object_files import ObjectFiles


class BackupService:
    """`write` makes the copy; it runs in a thread, and no object file is removed meanwhile."""

    def __init__(self, files: ObjectFiles, write: Callable[[Path], None]) -> None:
        self._files = files
        self._write = write

    async def back_up(self, target: Path) -> None:
        """Copy to the new folder `target`. Raises SetupError when it exists or cannot be written."""
        async with self._files.holding():
            await asyncio.to_thread(self._write, target)

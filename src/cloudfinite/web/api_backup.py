"""The JSON API's backup: a consistent copy of the data folder, made while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from cloudfinite.errors import InvalidArgument, SetupError
from cloudfinite.service.backup import BackupService
from cloudfinite.web.api_routes import Answer, Question, operation


class BackupRequest(Question):
    target: str = Field(min_length=1, max_length=4_096, description="New folder on the server's machine, absolute")


class BackupMade(Answer):
    target: str


class BackupApi:
    """Backups. `backups` is None where the database is not ours to copy."""

    group: ClassVar[str] = "server"

    def __init__(self, backups: BackupService | None) -> None:
        self._backups = backups

    @operation("POST", "/backup", status=201)
    async def back_up(self, body: BackupRequest) -> BackupMade:
        """Copy database, keys and objects to a new folder; answers when the copy is complete."""
        target = Path(body.target)
        if self._backups is None:
            raise InvalidArgument("the database is PostgreSQL: copy it with pg_dump, and its objects as files")
        if not target.is_absolute():
            raise InvalidArgument(f"target is {body.target!r}; it must be an absolute path")
        try:
            await self._backups.back_up(target)
        except SetupError as exc:
            raise InvalidArgument(f"{exc.message}; {exc.advice}" if exc.advice else exc.message) from exc
        return BackupMade(target=str(target))

"""A consistent copy of a running data folder, and the way back into a stopped one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from cloudfinite.adapters.data_folder import DataFolder
from cloudfinite.errors import SetupError

DATABASE = "cloudfinite.db"
_SECRETS = ("secret.key", "admin.token", "webhook.secret")
_PAGES_PER_STEP = 2_000  # of the database, so that writers get their turns


def write_backup(data: Path, target: Path) -> None:
    """Copy database, secrets and objects to the new folder `target`; the server may be running and writing.

    The database comes first: files that it names are never removed while a copy runs (see `ObjectFiles.holding`).
    Raises SetupError when `target` exists or cannot be written.
    """
    try:
        target.mkdir(parents=True, mode=0o700)
        _copy(data, target)
    except FileExistsError as exc:
        raise SetupError(f"{target} exists already", "name a folder that does not exist yet") from exc
    except (OSError, shutil.Error, sqlite3.Error) as exc:
        raise SetupError(f"the backup to {target} is not complete: {exc}", "remove it, and try another place") from exc


def _copy(data: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{data / DATABASE}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target / DATABASE)) as copy,
    ):
        source.backup(copy, pages=_PAGES_PER_STEP)
    for name in _SECRETS:
        if (data / name).exists():
            shutil.copy2(data / name, target / name)
    shutil.copytree(
        data / "objects",
        target / "objects",
        ignore=shutil.ignore_patterns("tmp"),
        copy_function=_link_or_copy,
        dirs_exist_ok=True,
    )


def _link_or_copy(source: str, target: str) -> None:
    """Object files never change, so a second name is as good as a copy where the disk is the same."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def restore_backup(backup: Path, data: Path) -> None:
    """Fill the stopped data folder `data` from a backup. Raises SetupError when it is in use or holds a database."""
    if not (backup / DATABASE).is_file():
        raise SetupError(f"{backup} has no {DATABASE}, so it is no backup", "name a folder that a backup wrote")
    folder = DataFolder(data)
    folder.own()
    try:
        if (data / DATABASE).exists():
            raise SetupError(f"{data} holds a database already", "restore into a new folder, or move that one away")
        shutil.copytree(backup / "objects", folder.objects, dirs_exist_ok=True)
        for name in _SECRETS:
            if (backup / name).exists():
                shutil.copy2(backup / name, data / name)
        partial = data / f"{DATABASE}.partial"
        shutil.copy2(backup / DATABASE, partial)
        partial.rename(data / DATABASE)  # last, so that a restore that broke off is told from a whole one
    finally:
        folder.release()

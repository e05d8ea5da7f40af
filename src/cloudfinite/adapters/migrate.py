"""Brings a database to this version's schema, once, however many processes start together."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection, Engine

from cloudfinite.adapters.schema import metadata
from cloudfinite.adapters.sql import is_postgres
from cloudfinite.errors import SetupError

HEAD = "0007"
_LOCK = 0x636C6F756466  # "cloudf": the advisory lock that migrations run under


def migrate(engine: Engine) -> None:
    """Raises SetupError when the database was written by a newer version."""
    with engine.begin() as connection:
        if is_postgres(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # all or nothing, whenever the process dies
        version = _version(connection)
        if version == HEAD:
            return  # the usual start: Alembic is not even imported, which would take half a second
        if version is None:
            _create(connection)  # nor for the first one
            return
        if version is not None and version > HEAD:
            raise SetupError(
                f"the database has schema {version}, this version knows {HEAD}", "start the newer cloudfinite again"
            )
        upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create(connection: Connection) -> None:
    """What all migrations make, in one go; a test compares the two."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY NOT NULL)"))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)

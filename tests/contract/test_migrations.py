"""A database made by the migrations is the one that the code's tables describe; starting again changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from cloudfinite.adapters.migrate import HEAD, migrate, upgrade
from cloudfinite.adapters.schema import metadata
from cloudfinite.adapters.store import SqlTransaction, sqlite_engine, system_clock
from cloudfinite.ports import Store


async def test_migrations_make_the_tables_of_the_code(store: Store) -> None:
    engine = store.engine  # type: ignore[attr-defined]  # both stores have one
    with engine.begin() as connection:
        created = _description(connection)
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        upgrade(connection)
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        differences = [one for one in compare_metadata(context, metadata) if "alembic_version" not in str(one)]
        assert differences == []
        assert _description(connection) == created


def _description(connection: Connection) -> dict[str, object]:
    """Columns, their defaults and the indexes of all tables, as the database tells them."""
    inspector = inspect(connection)
    return {
        name: (
            {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(name)
            },
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((str(index["column_names"]), _condition(index)) for index in inspector.get_indexes(name)),
            sorted(str(unique["column_names"]) for unique in inspector.get_unique_constraints(name)),
        )
        for name in inspector.get_table_names()
    }


def _condition(index: Any) -> str:
    options = index.get("dialect_options", {})
    return " ".join(str(value) for name, value in options.items() if name.endswith("_where"))


async def test_migrating_again_keeps_what_is_there(store: Store) -> None:
    engine = store.engine  # type: ignore[attr-defined]
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO queue_lock (id) VALUES ('p1')"))
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM queue_lock")).scalars().all() == ["p1"]


def test_bodies_of_an_older_database_are_kept(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        upgrade(connection, "0005")
        connection.execute(
            text(
                "INSERT INTO delivery (id, job_id, bucket, url, event, content_type, request_id, state, created_us, "
                "next_us, body) VALUES ('msg_1', 'j', 'b-1', 'http://x/', 'TaskFinish', 'text/xml', '', 'waiting', "
                "1, 1, x'3c612f3e')"
            )
        )
    migrate(engine)
    with engine.connect() as connection:
        found = SqlTransaction(connection, system_clock).deliveries.get("msg_1")
    assert found is not None and found.body == b"<a/>"
    engine.dispose()


def test_a_start_that_failed_half_way_leaves_nothing(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "new.db", "FULL")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE job (id TEXT)"))  # in the way of ours
    with pytest.raises(OperationalError, match="job already exists"):
        migrate(engine)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["job"]
    engine.dispose()

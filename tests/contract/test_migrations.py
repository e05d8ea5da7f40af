"""A database made by the migrations is the one that the code's tables describe; starting again changes nothing."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from cloudfinite.adapters.migrate import HEAD, migrate, upgrade
from cloudfinite.adapters.schema import metadata
from cloudfinite.adapters.store import SqlTransaction, system_clock
from cloudfinite.ports import Store


async def test_migrations_make_the_tables_of_the_code(store: Store) -> None:
    engine = store.engine  # type: ignore[attr-defined]  # both stores have one
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        differences = [one for one in compare_metadata(context, metadata) if "alembic_version" not in str(one)]
    assert differences == []


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
        assert SqlTransaction(connection, system_clock).deliveries.get("msg_1").body == b"<a/>"  # type: ignore[union-attr]
    engine.dispose()

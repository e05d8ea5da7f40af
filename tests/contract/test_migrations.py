"""A database made by the migrations is the one that the code's tables describe; starting again changes nothing."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from cloudfinite.adapters.migrate import HEAD, migrate
from cloudfinite.adapters.schema import metadata
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

"""Alembic's environment: runs on the connection that `adapters/migrate.py` hands over, in its transaction."""

from alembic import context

from cloudfinite.adapters.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

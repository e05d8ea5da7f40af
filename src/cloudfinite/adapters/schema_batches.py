"""The table of batch jobs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text, text

from cloudfinite.adapters.schema_base import metadata, row_number

_IS_ACTIVE = text("state IN ('Submitted', 'Running')")
_HAS_ENDED = text("ended_us IS NOT NULL")

batch = Table(
    "batch",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("bucket", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    # JSON.
    Column("input", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("start_us", BigInteger),
    Column("end_us", BigInteger),
    # With a comma before and behind each.
    Column("workflow_ids", Text, nullable=False),
    Column("cursor", Text, nullable=False),
    Column("found", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("held", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("lease_owner", Text),
    Column("lease_until_us", BigInteger),
    Index("batch_list", "bucket", "created_us", "seq"),
    Index("batch_active", "seq", sqlite_where=_IS_ACTIVE, postgresql_where=_IS_ACTIVE),
    Index("batch_ended", "ended_us", sqlite_where=_HAS_ENDED, postgresql_where=_HAS_ENDED),
    sqlite_autoincrement=True,
)

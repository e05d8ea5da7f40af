"""The tables of workflows, their executions, and the steps of these that have a job."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text, text

from cloudfinite.adapters.schema_base import metadata, row_number

workflow = Table(
    "workflow",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("bucket", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("topology", Text, nullable=False),
    Column("start", Text, nullable=False),
    Column("steps", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("workflow_list", "bucket", "seq"),
    # Read for each object that arrives.
    Index(
        "workflow_active",
        "bucket",
        "seq",
        sqlite_where=text("state = 'Active'"),
        postgresql_where=text("state = 'Active'"),
    ),
    sqlite_autoincrement=True,
)

execution = Table(
    "execution",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("workflow_id", Text, nullable=False),
    Column("workflow_name", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("event_id", Text),
    Column("batch_id", Text),
    Column("source", Text, nullable=False),
    Column("topology", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("notify", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    # As for jobs: one limited query per state, merged, so that a list over several states sorts nothing.
    Index("execution_list", "workflow_id", "state", "created_us", "seq"),
    Index("execution_list_object", "workflow_id", "object_key", "state", "created_us", "seq"),
    Index(
        "execution_list_batch",
        "batch_id",
        "state",
        "created_us",
        "seq",
        sqlite_where=text("batch_id IS NOT NULL"),
        postgresql_where=text("batch_id IS NOT NULL"),
    ),
    # An event starts a workflow once, also when it is told again after its own row has been removed.
    Index(
        "execution_event",
        "workflow_id",
        "event_id",
        unique=True,
        sqlite_where=text("event_id IS NOT NULL"),
        postgresql_where=text("event_id IS NOT NULL"),
    ),
    Index(
        "execution_ended",
        "ended_us",
        sqlite_where=text("ended_us IS NOT NULL"),
        postgresql_where=text("ended_us IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

# A row comes with its step's job; a step without one has not started. The job may be removed before the run ends.
step = Table(
    "step",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("output_key", Text, nullable=False),
    sqlite_with_rowid=False,
)

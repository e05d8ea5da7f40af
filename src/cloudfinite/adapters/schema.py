"""The tables of jobs, queues, templates and keys; importing this module fills `metadata` with all tables.

`ready` holds exactly the waiting jobs that may be claimed: it is written in the transaction that makes a job
runnable, and its row is deleted by the claim, by cancel and by nothing else. So a claim never walks over ended jobs,
whatever the planner believes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
    true,
)

import cloudfinite.adapters.schema_batches
import cloudfinite.adapters.schema_deliveries
import cloudfinite.adapters.schema_objects
import cloudfinite.adapters.schema_workflows  # noqa: F401 - they add their tables to `metadata`
from cloudfinite.adapters.schema_base import metadata, row_number

__all__ = ["job", "key", "mark", "metadata", "queue", "queue_lock", "ready", "stat", "template"]

FULL_POLICY = '[{"buckets": ["*"], "prefixes": [""], "actions": ["*"]}]'

queue = Table(
    "queue",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("notify", Text, nullable=False),
    Column("max_size", Integer, nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    # A counter, because counting 100,000 rows takes 10 to 30 ms; only MaxSize reads it.
    Column("waiting", Integer, nullable=False, server_default=text("0")),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("queue_bucket_service", "bucket", "service", unique=True),
)

# Held by a claim on PostgreSQL, so that editing a queue does not wait for claims.
queue_lock = Table("queue_lock", metadata, Column("id", Text, primary_key=True))

template = Table(
    "template",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("template_bucket_name", "bucket", "name", unique=True),
)

job = Table(
    "job",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("bucket", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("queue_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("template_id", Text, nullable=False),
    Column("template_name", Text, nullable=False),
    Column("user_data", Text),
    Column("callback_url", Text),
    Column("callback_format", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("code", Text, nullable=False, server_default=text("''")),
    Column("message", Text, nullable=False, server_default=text("''")),
    Column("result", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("source_etag", Text, nullable=False, server_default=text("''")),
    # JSON, of an operation that produces an object.
    Column("output", Text),
    # Of a step of a workflow's run.
    Column("run_id", Text),
    Column("step", Text),
    Column("lease_owner", Text),
    Column("lease_until_us", BigInteger),
    Column("lease_token", Integer, nullable=False, server_default=text("0")),
    # Lists run one limited query per state and merge: a list over several states would sort everything.
    Index("job_list", "bucket", "tag", "state", "created_us", "seq"),
    Index("job_list_queue", "queue_id", "state", "created_us", "seq"),
    Index("job_list_object", "bucket", "object_key", "created_us", "seq"),
    Index("job_list_all", "state", "created_us", "seq"),
    Index(
        "job_running",
        "queue_id",
        sqlite_where=text("state = 'Running'"),
        postgresql_where=text("state = 'Running'"),
    ),
    Index(
        "job_ended",
        "ended_us",
        sqlite_where=text("ended_us IS NOT NULL"),
        postgresql_where=text("ended_us IS NOT NULL"),
    ),
    Index(
        "job_lease",
        "lease_until_us",
        sqlite_where=text("state = 'Running'"),
        postgresql_where=text("state = 'Running'"),
    ),
    sqlite_autoincrement=True,
)

ready = Table(
    "ready",
    metadata,
    Column("queue_id", Text, primary_key=True),
    Column("rank", SmallInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

key = Table(
    "access_key",
    metadata,
    Column("secret_id", Text, primary_key=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("is_enabled", Boolean, nullable=False, server_default=true()),
    # JSON; keys older than policies may do everything.
    Column("policy", Text, nullable=False, server_default=FULL_POLICY),
)

# What all processes on this database must agree on, as the first of them had it.
mark = Table(
    "mark",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

stat = Table(
    "stat",
    metadata,
    Column("minute_us", BigInteger, primary_key=True, autoincrement=False),
    Column("bucket", Text, primary_key=True),
    Column("queue_id", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("submitted", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("waited_ms", BigInteger, nullable=False),
    Column("ran_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

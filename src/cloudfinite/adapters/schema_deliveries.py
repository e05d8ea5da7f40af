"""The tables of deliveries, their bodies and attempts, the targets they go to, and the secrets that sign for a bucket.

`target.wake_us` is when a deliverer should look at the target: when its next delivery is due, when its lease ends, or
never (NULL). So what is due is found on one index however many deliveries wait behind paused or failing receivers.
A new delivery (sequence 0) touches no target; admitting it does. `delivery.holder` is the deliverer that has it in
memory: it may have sent it, until the attempt is recorded or the delivery is put back.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text, text

from cloudfinite.adapters.schema_base import metadata, row_number


def _partial_index(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


delivery = Table(
    "delivery",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("replayed_after", Integer, nullable=False, server_default=text("0")),
    Column("sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("created_us", BigInteger, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("holder", Text),
    _partial_index("delivery_new", "seq", where="state = 'waiting' AND sequence = 0"),
    _partial_index("delivery_due", "url", "next_us", where="state = 'waiting'"),
    Index("delivery_job", "job_id"),
    Index("delivery_list", "state", "seq"),
    Index("delivery_list_url", "url", "state", "seq"),
    sqlite_autoincrement=True,
)

# Apart, and written once: SQLite writes a whole row anew for each change of one of its columns.
delivery_body = Table(
    "delivery_body",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

attempt = Table(
    "attempt",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("delivery_id", Text, nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("dns_us", Integer, nullable=False),
    Column("connect_us", Integer, nullable=False),
    Column("total_us", Integer, nullable=False),
    Column("response_head", Text, nullable=False),
    Column("response_body", LargeBinary, nullable=False),
    Column("message", Text, nullable=False),
    sqlite_autoincrement=True,
)

target = Table(
    "target",
    metadata,
    Column("url", Text, primary_key=True),
    Column("state", Text, nullable=False, server_default=text("'active'")),
    Column("paused_reason", Text, nullable=False, server_default=text("''")),
    Column("failures_in_row", Integer, nullable=False, server_default=text("0")),
    Column("failing_since_us", BigInteger),
    Column("last_success_us", BigInteger),
    Column("open_until_us", BigInteger),
    Column("next_sequence", BigInteger, nullable=False, server_default=text("1")),
    Column("secrets", Text, nullable=False, server_default=text("'[]'")),
    Column("rate_per_s", Float, nullable=False, server_default=text("0")),
    Column("lease_owner", Text),
    Column("lease_token", BigInteger, nullable=False, server_default=text("0")),
    Column("wake_us", BigInteger),
    _partial_index("target_wake", "wake_us", where="wake_us IS NOT NULL"),
    _partial_index("target_owner", "lease_owner", where="lease_owner IS NOT NULL"),
)

bucket_signing = Table(
    "bucket_signing",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("secrets", Text, nullable=False, server_default=text("'[]'")),
)

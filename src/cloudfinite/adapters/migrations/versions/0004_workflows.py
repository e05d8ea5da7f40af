"""Workflows and executions."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_workflow()
    _create_execution()
    op.create_table(
        "step",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("output_key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name"),
        sqlite_with_rowid=False,
    )
    for name in ("output", "run_id", "step"):
        op.add_column("job", sa.Column(name, sa.Text()))
    op.add_column("event", sa.Column("lineage", sa.Text(), server_default="", nullable=False))


def _create_workflow() -> None:
    op.create_table(
        "workflow",
        sa.Column("seq", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("topology", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("workflow_list", "workflow", ["bucket", "seq"])
    _create_partial_index("workflow_active", "workflow", ["bucket", "seq"], "state = 'Active'")


def _create_execution() -> None:
    op.create_table(
        "execution",
        sa.Column("seq", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text()),
        sa.Column("batch_id", sa.Text()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("topology", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("notify", sa.Text()),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    page = ["state", "created_us", "seq"]
    op.create_index("execution_list", "execution", ["workflow_id", *page])
    op.create_index("execution_list_object", "execution", ["workflow_id", "object_key", *page])
    _create_partial_index("execution_list_batch", "execution", ["batch_id", *page], "batch_id IS NOT NULL")
    _create_partial_index(
        "execution_event", "execution", ["workflow_id", "event_id"], "event_id IS NOT NULL", unique=True
    )
    _create_partial_index("execution_ended", "execution", ["ended_us"], "ended_us IS NOT NULL")


def _create_partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))

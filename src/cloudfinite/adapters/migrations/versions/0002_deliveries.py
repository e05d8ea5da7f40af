"""Rate per target, signing secrets per bucket."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("target", sa.Column("rate_per_s", sa.Float(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "bucket_signing",
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("secrets", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.PrimaryKeyConstraint("bucket"),
    )

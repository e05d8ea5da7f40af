"""The bodies of deliveries in a table of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "delivery_body",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id"),
    )
    op.execute("INSERT INTO delivery_body (delivery_id, body) SELECT id, body FROM delivery ORDER BY seq")
    op.drop_column("delivery", "body")

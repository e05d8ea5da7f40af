"""Which deliverer has a delivery in memory, so that a POST that a kill cut off is told as an attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("delivery", sa.Column("holder", sa.Text()))

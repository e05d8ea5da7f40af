"""Access policies: what each key may do, keys that are disabled, and buckets that anybody may read."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_EVERYTHING = '[{"buckets": ["*"], "prefixes": [""], "actions": ["*"]}]'


def upgrade() -> None:
    op.add_column("access_key", sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("access_key", sa.Column("policy", sa.Text(), server_default=_EVERYTHING, nullable=False))
    op.add_column("bucket", sa.Column("acl", sa.Text(), server_default="private", nullable=False))

"""How PostgreSQL is connected to: its URL as libpq and SQLAlchemy write it, and the options of every connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudfinite.errors import SetupError

# libpq's words. A database's machine that vanishes without a farewell is noticed within 15 s, not when TCP gives up.
CONNECT_ARGUMENTS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}


def postgres_url(url: str) -> str:
    """The URL for SQLAlchemy with the psycopg 3 driver, from what people write."""
    return plain_postgres_url(url).replace("postgresql://", "postgresql+psycopg://", 1)


def plain_postgres_url(url: str) -> str:
    """The URL as libpq takes it, from `postgresql://…` or `postgres://…`. Raises SetupError for any other."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise SetupError("--database is not a PostgreSQL URL", "write postgresql://user:password@host/name")
    return f"postgresql://{rest}"

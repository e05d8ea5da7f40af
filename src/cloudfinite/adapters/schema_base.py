"""What all tables share: one MetaData, and how instants are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData()

# SQLite gives only INTEGER primary keys numbers of its own.
row_number = BigInteger().with_variant(Integer(), "sqlite")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """An instant as whole microseconds since 1970, as the tables hold it."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def optional_us(at: datetime | None) -> int | None:
    return None if at is None else to_us(at)


def optional_time(value: int | None) -> datetime | None:
    return None if value is None else from_us(value)

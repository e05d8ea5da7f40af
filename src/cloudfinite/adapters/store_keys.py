"""The SQL of access keys."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloudfinite.adapters.schema import key as key_table
from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.sql import SqlUnit, is_postgres
from cloudfinite.domain.access import AccessKey, policy_data, read_policy


class SqlKeyRows:
    """`ports.KeyRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def put(self, key: AccessKey, sealed_secret: bytes) -> None:
        db = self._unit.connection
        values = {"secret_id": key.secret_id, "sealed_secret": sealed_secret, **_values(key)}
        dialect = postgresql if is_postgres(db) else sqlite
        statement = dialect.insert(key_table).values(created_us=to_us(key.created_at), **values)
        db.execute(statement.on_conflict_do_update(index_elements=["secret_id"], set_=values))

    def get(self, secret_id: str) -> AccessKey | None:
        row = self._unit.connection.execute(select(key_table).where(_is(secret_id))).one_or_none()
        return _key(row) if row else None

    def all(self) -> list[tuple[AccessKey, bytes]]:
        rows = self._unit.connection.execute(select(key_table).order_by(key_table.c.created_us, key_table.c.secret_id))
        return [(_key(row), bytes(row.sealed_secret)) for row in rows]

    def replace(self, key: AccessKey) -> None:
        self._unit.connection.execute(update(key_table).where(_is(key.secret_id)).values(_values(key)))

    def remove(self, secret_id: str) -> bool:
        return bool(self._unit.connection.execute(delete(key_table).where(_is(secret_id))).rowcount)


def _is(secret_id: str) -> Any:
    return key_table.c.secret_id == secret_id


def _values(key: AccessKey) -> dict[str, Any]:
    return {"is_enabled": key.is_enabled, "policy": json.dumps(policy_data(key.policy))}


def _key(row: Row[Any]) -> AccessKey:
    return AccessKey(row.secret_id, read_policy(json.loads(row.policy)), from_us(row.created_us), row.is_enabled)

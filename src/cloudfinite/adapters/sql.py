"""What every row class needs of a transaction on a SQL database, and the short way for statements written as text.

SQLAlchemy takes about 0.15 ms of CPU for a statement that SQLite answers in 0.01 ms. Statements made with `text()` are
the hot ones here, so they go straight to the driver's cursor, inside SQLAlchemy's transaction; everything else goes
through SQLAlchemy. Results and errors look the same either way.
"""

from __future__ import annotations

import json
import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from itertools import chain
from typing import Any, Protocol, TypeAlias

import sqlalchemy
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError

# A machine that is cut off says nothing: notice within seconds, not after the system's hours.
CONNECT_ARGUMENTS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

Sizes: TypeAlias = tuple[tuple[str, int], ...]  # how many items each list of a statement has

_NAME = re.compile(r"(?<![:\w]):(\w+)")
_ROWS = 256  # of values in one INSERT
_IN_NOTHING = "(SELECT NULL WHERE 1 = 0)"


class SqlUnit(Protocol):
    """One running transaction; `now` is the database's clock, read once.

    steady is for what is due later: it goes on evenly when somebody sets this machine's clock.
    """

    @property
    def connection(self) -> Connection: ...

    @property
    def now(self) -> datetime: ...

    @property
    def steady(self) -> datetime: ...


class Connection:
    """A SQLAlchemy connection with the short way beside it."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._slow = connection
        self._is_postgres = connection.dialect.name == "postgresql"

    @property
    def dialect(self) -> sqlalchemy.Dialect:
        return self._slow.dialect

    def begin_nested(self) -> sqlalchemy.NestedTransaction:
        return self._slow.begin_nested()

    def execute(self, statement: Any, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None) -> Any:
        """Run a statement; `values` as SQLAlchemy takes them. The result has SQLAlchemy's methods."""
        # Whoever listens to statements hears of all.
        if type(statement) is not TextClause or self._slow.engine.dispatch.before_cursor_execute:
            return self._slow.execute(statement, values)
        if isinstance(values, Sequence):
            return self._run(statement.text, (), lambda cursor, words: cursor.executemany(words, values))
        return self.run(statement.text, _expanding(statement), values or {})

    def run(self, words: str, lists: frozenset[str], values: Mapping[str, Any]) -> Result:
        """Run SQL text with `:name` parameters; those in `lists` stand behind IN and have lists for values."""
        flat = dict(values)
        for name in lists:
            items = flat.pop(name)
            flat |= {f"{name}_{number}": item for number, item in enumerate(items)}
        sizes = tuple((name, len(values[name])) for name in sorted(lists))
        return self._run(words, sizes, lambda cursor, driver_words: cursor.execute(driver_words, flat))

    def insert(self, into: Insert, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, in few statements: SQLite's driver gives up the GIL, and waits for it, at each of a list."""
        if not rows:
            return
        if self._is_postgres or self._slow.engine.dispatch.before_cursor_execute:
            self.execute(into.one, [dict(zip(into.columns, row, strict=True)) for row in rows])
            return
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            self._run(_of_rows(into, len(some)), (), partial(_execute, [*chain.from_iterable(some)]))

    def _run(self, words: str, sizes: Sizes, execute: Callable[[Any, str], object]) -> Result:
        driver_words = _driver_words(words, sizes, self._is_postgres)
        proxied = self._slow.connection
        driver: Any = proxied.driver_connection
        cursor: Any = None
        try:
            cursor = driver.cursor()
            execute(cursor, driver_words)
            rows = cursor.fetchall() if cursor.description else []
            return Result(words, cursor.description, rows, cursor.rowcount)
        except self._slow.dialect.loaded_dbapi.Error as exc:
            raise self._translated(exc, words, proxied, cursor) from exc
        finally:
            if cursor is not None:
                cursor.close()

    def control(self, words: str) -> None:
        """`BEGIN`, `COMMIT`, `SAVEPOINT x`, `RELEASE x`, `ROLLBACK TO x`, without SQLAlchemy's bookkeeping of them."""
        self.run(words, frozenset(), {})

    def _translated(self, exc: Exception, words: str, proxied: Any, cursor: Any) -> Exception:
        """The error as SQLAlchemy would raise it; a connection that is gone leaves the pool."""
        dialect = self._slow.dialect
        is_gone = dialect.is_disconnect(exc, proxied, cursor)  # type: ignore[arg-type]  # it is the driver's error
        if is_gone:
            self._slow.invalidate(exc)
        return DBAPIError.instance(
            words, None, exc, dialect.loaded_dbapi.Error, connection_invalidated=is_gone, dialect=dialect
        )


def _execute(values: Sequence[Any], cursor: Any, words: str) -> None:
    cursor.execute(words, values)


class Result:
    """Rows read to the end, with the methods of SQLAlchemy's Result that are used here."""

    def __init__(self, words: str, description: Any, rows: list[Any], rowcount: int) -> None:
        self._words = words
        self._names = tuple(column[0] for column in description or ())
        self._rows = rows
        self.rowcount = rowcount

    def all(self) -> list[Any]:
        make = _row_class(self._names)._make
        return [make(row) for row in self._rows]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())

    def one(self) -> Any:
        (row,) = self.all()
        return row

    def one_or_none(self) -> Any:
        return self.one() if self._rows else None

    def first(self) -> Any:
        return _row_class(self._names)._make(self._rows[0]) if self._rows else None

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        (row,) = self._rows
        return row[0]

    def scalars(self) -> Scalars:
        return Scalars(row[0] for row in self._rows)


class Scalars(list[Any]):
    """The first column."""

    def all(self) -> list[Any]:
        return self


class Insert:
    """An INSERT of rows that hold these columns' values in this order."""

    def __init__(self, table: str, *columns: str) -> None:
        self.columns = columns
        self.start = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
        self.one = text(f"{self.start}({', '.join(f':{column}' for column in columns)})")


@cache
def _of_rows(into: Insert, size: int) -> str:
    row = f"({', '.join('?' * len(into.columns))})"
    return into.start + ", ".join([row] * size)


def json_row(columns: Sequence[str]) -> str:
    """SQL for all rows as one: SQLite's driver gives up the GIL, and waits for it, at each row. Not for blobs."""
    return f"json_group_array(json_array({', '.join(columns)}))"


def read_json_row(words: str, columns: tuple[str, ...]) -> list[Any]:
    """The rows that `json_row` made one of."""
    return [_row_class(columns)._make(row) for row in json.loads(words)]


@cache
def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)


@cache
def _expanding(statement: TextClause) -> frozenset[str]:
    return frozenset(name for name, bind in statement._bindparams.items() if bind.expanding)


@cache
def _driver_words(words: str, sizes: Sizes, is_postgres: bool) -> str:
    """The text as the driver takes it, with as many parameters as each list has items."""
    counts = dict(sizes)

    def parameter(name: str) -> str:
        return f"%({name})s" if is_postgres else f":{name}"

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name not in counts:
            return parameter(name)
        if not counts[name]:
            return _IN_NOTHING
        return f"({', '.join(parameter(f'{name}_{number}') for number in range(counts[name]))})"

    return _NAME.sub(replaced, words.replace("%", "%%") if is_postgres else words)


def is_postgres(connection: Connection | sqlalchemy.Connection) -> bool:
    return connection.dialect.name == "postgresql"

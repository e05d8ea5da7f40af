"""Statements in the words of both databases: SQLite is told its index, PostgreSQL locks rows; lists go in as one value.

SQLite's driver gives up the GIL, and waits for it, at each statement and at each row that it reads, so what concerns
many rows is one statement here, and may be read as one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, TextClause, text

from cloudfinite.adapters.sql import Connection, is_postgres, json_row, read_json_row


@dataclass(frozen=True, slots=True)
class Both:
    """One statement. `columns` are those of `rows`, where SQLite reads all of them as one row."""

    sqlite: TextClause
    postgres: TextClause
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: str) -> Both:
        """`{by:<index>}` and `{lock:<clause>}` mark the places, and `{among:<name>}` a test against a list of texts."""
        sqlite, postgres = words, words
        for part in [piece.split("}")[0] for piece in words.split("{")[1:]]:
            kind, _, value = part.partition(":")
            of_sqlite, of_postgres = {
                "by": (f"INDEXED BY {value}", ""),
                "lock": ("", value),
                # One value: each length of a list would be a statement of its own, to be prepared anew.
                "among": (f"IN (SELECT value FROM json_each(:{value}))", f"= ANY(CAST(:{value} AS text[]))"),
            }[kind]
            sqlite = sqlite.replace(f"{{{part}}}", of_sqlite)
            postgres = postgres.replace(f"{{{part}}}", of_postgres)
        return cls(text(sqlite), text(postgres))

    @classmethod
    def of_rows(cls, words: str, **types: str) -> Both:
        """A change of many rows, each to values of its own.

        `{rows}` marks the place of the table of what is given, `:rows` as JSON lists; `{<name>}` are its columns, in
        their order there.
        """
        names = list(enumerate(types))
        sqlite = words.format(
            rows="json_each(:rows) AS given", **{name: f"json_extract(given.value, '$[{at}]')" for at, name in names}
        )
        postgres = words.format(
            rows="json_array_elements(CAST(:rows AS json)) AS given",
            **{name: f"CAST(given.value ->> {at} AS {types[name]})" for at, name in names},
        )
        return cls(text(sqlite), text(postgres))

    def as_one_row(self, columns: Iterable[str]) -> Both:
        """For a SELECT without blobs."""
        columns = tuple(columns)
        return replace(self, sqlite=text(f"SELECT {json_row(columns)} FROM ({self.sqlite.text})"), columns=columns)

    def execute(self, db: Connection, **values: Any) -> Any:
        """Run it; a list among the values is one of texts."""
        if is_postgres(db):
            return db.execute(self.postgres, values)
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = json.dumps(value)
        return db.execute(self.sqlite, values)

    def execute_rows(self, db: Connection, rows: Sequence[Sequence[Any]]) -> Any:
        return self.execute(db, rows=json.dumps(rows))

    def rows(self, db: Connection, **values: Any) -> list[Row[Any]]:
        result = self.execute(db, **values)
        if is_postgres(db) or not self.columns:
            return list(result)
        return read_json_row(result.scalar_one(), self.columns)

"""The store: whole transactions, run one after another on SQLite or side by side on PostgreSQL.

SQLite: one writer thread owns the connection and runs queued functions, many per COMMIT (group commit: under load
groups form by themselves, idle work waits for nobody); reads go to other connections. PostgreSQL: the same functions
run in threads with pooled connections.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from cloudfinite.adapters import sql
from cloudfinite.adapters.migrate import migrate
from cloudfinite.adapters.postgres import CONNECT_ARGUMENTS, postgres_url
from cloudfinite.adapters.schema_base import from_us
from cloudfinite.adapters.sql import is_postgres
from cloudfinite.adapters.store_batches import SqlBatchRows
from cloudfinite.adapters.store_deliveries import SqlDeliveryRows
from cloudfinite.adapters.store_events import SqlEventRows
from cloudfinite.adapters.store_executions import SqlExecutionRows
from cloudfinite.adapters.store_jobs import SqlJobRows
from cloudfinite.adapters.store_keys import SqlKeyRows
from cloudfinite.adapters.store_objects import SqlBucketRows, SqlObjectRows
from cloudfinite.adapters.store_queues import SqlQueueRows, SqlTemplateRows
from cloudfinite.adapters.store_stats import SqlStatRows
from cloudfinite.adapters.store_workflows import SqlWorkflowRows
from cloudfinite.errors import ServiceUnavailable, SetupError
from cloudfinite.ports import Clock, Store, Transaction

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

_GROUP = 256  # functions in one COMMIT; more would only make the first of them wait
_READERS = 2
_CACHE_KIB = 4_096  # of each connection, which fills it as the file grows; the system keeps the rest of the file
_CHECKPOINT_CHANGES = 2_000  # rows: some 4 MB of the log
_MOST_LOG_PAGES = 16_000  # 64 MB, then a commit moves them itself: a log that is always being read cannot start anew
_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
_KEEP_MARK = text("INSERT INTO mark (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
_MARK = text("SELECT value FROM mark WHERE name = :name")
_RETRIED_STATES = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_TRIES = 3
_OLDEST_SQLITE = (3, 35)  # RETURNING, UPDATE FROM, DROP COLUMN


def system_clock() -> datetime:
    return datetime.now(UTC)


def steady_clock() -> Clock:
    """A clock that starts with this machine's and then goes by the monotonic one: nobody sets it."""
    start, started = system_clock(), time.monotonic()
    return lambda: start + timedelta(seconds=time.monotonic() - started)


class SqlTransaction:
    """`ports.Transaction` on a SQL connection; the row classes are made when first used."""

    def __init__(self, connection: Connection, clock: Clock, steady: Clock | None = None) -> None:
        self.connection = sql.Connection(connection)
        self._clock = clock
        self._steady = steady

    @cached_property
    def now(self) -> datetime:
        """PostgreSQL's clock, so that the leases of all machines share one; SQLite's is this machine's."""
        if is_postgres(self.connection):
            return from_us(self.connection.execute(_NOW).scalar_one())
        return self._clock()

    @cached_property
    def steady(self) -> datetime:
        return self._steady() if self._steady else self.now

    @cached_property
    def jobs(self) -> SqlJobRows:
        return SqlJobRows(self)

    @cached_property
    def queues(self) -> SqlQueueRows:
        return SqlQueueRows(self)

    @cached_property
    def templates(self) -> SqlTemplateRows:
        return SqlTemplateRows(self)

    @cached_property
    def stats(self) -> SqlStatRows:
        return SqlStatRows(self)

    def try_lock(self, name: str) -> bool:
        """PostgreSQL: an advisory lock until the transaction's end; SQLite has one process anyway."""
        if not is_postgres(self.connection):
            return True
        return bool(self.connection.execute(_TRY_LOCK, {"name": f"cloudfinite {name}"}).scalar())

    def keep_mark(self, name: str, value: str) -> str:
        self.connection.execute(_KEEP_MARK, {"name": name, "value": value})
        return str(self.connection.execute(_MARK, {"name": name}).scalar_one())

    @cached_property
    def keys(self) -> SqlKeyRows:
        return SqlKeyRows(self)

    @cached_property
    def buckets(self) -> SqlBucketRows:
        return SqlBucketRows(self)

    @cached_property
    def objects(self) -> SqlObjectRows:
        return SqlObjectRows(self)

    @cached_property
    def events(self) -> SqlEventRows:
        return SqlEventRows(self)

    @cached_property
    def workflows(self) -> SqlWorkflowRows:
        return SqlWorkflowRows(self)

    @cached_property
    def batches(self) -> SqlBatchRows:
        return SqlBatchRows(self)

    @cached_property
    def executions(self) -> SqlExecutionRows:
        return SqlExecutionRows(self)

    @cached_property
    def deliveries(self) -> SqlDeliveryRows:
        return SqlDeliveryRows(self)


# --- SQLite --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    function: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class SqliteStore:
    """One file, one writer thread. `synchronous` is FULL where an answer must survive a power cut.

    steady, where it is given, decides what is due, instead of `clock`.
    """

    def __init__(
        self, path: Path, *, clock: Clock = system_clock, steady: Clock | None = None, synchronous: str = "FULL"
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._loop = asyncio.get_running_loop()
        self._engine = sqlite_engine(path, synchronous)
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._read_engine = sqlite_engine(path, synchronous, read_only=True)
        self._read_connections: SimpleQueue[Connection] = SimpleQueue()
        migrate(self._engine)
        for _ in range(_READERS):
            self._read_connections.put(self._read_engine.connect())
        self._checkpointer = ThreadPoolExecutor(1, thread_name_prefix="store-checkpoint")
        self._checkpointing: Future[None] | None = None
        self._changes = 0  # when the last checkpoint began
        self._writer = threading.Thread(target=self._write, name="store-write", daemon=True)
        self._writer.start()

    @property
    def engine(self) -> Engine:
        return self._engine

    async def run(self, work: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        future: asyncio.Future[R] = self._loop.create_future()
        self._work.put(_Work(partial(_call, work, args, kwargs), future))
        return await future

    async def read(self, work: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._loop.run_in_executor(self._readers, self._read, partial(_call, work, args, kwargs))

    def _read(self, function: Callable[[Transaction], R]) -> R:
        connection = self._read_connections.get()
        try:
            with _transaction(connection, "BEGIN"):
                return function(SqlTransaction(connection, self._clock, self._steady))
        except SQLAlchemyError as exc:
            raise _unavailable(exc) from exc
        finally:
            self._read_connections.put(connection)

    async def close(self) -> None:
        self._work.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        self._checkpointer.shutdown()
        self._readers.shutdown()
        for _ in range(_READERS):
            self._read_connections.get().close()
        self._read_engine.dispose()
        self._engine.dispose()

    def _write(self) -> None:
        with self._engine.connect() as connection:
            while (first := self._work.get()) is not None:
                group = self._commit(connection, first)
                self._loop.call_soon_threadsafe(_resolve, group)
                self._want_checkpoint(connection)

    def _want_checkpoint(self, connection: Connection) -> None:
        """Have the log moved into the file, by another thread: nobody's commit is to wait for that."""
        driver: Any = connection.connection.driver_connection
        if driver.total_changes - self._changes < _CHECKPOINT_CHANGES:
            return
        if self._checkpointing is None or self._checkpointing.done():
            self._changes = driver.total_changes
            self._checkpointing = self._checkpointer.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        except SQLAlchemyError as exc:
            log.warning("store.checkpoint_failed", error=str(exc.__cause__ or exc))  # the log holds all; it grows

    def _commit(self, connection: Connection, first: _Work) -> list[_Work]:
        """Run all that is there, and all that comes meanwhile, in one transaction; returns it, with its results."""
        group: list[_Work] = []
        try:
            with _transaction(connection, "BEGIN IMMEDIATE"):
                unit = SqlTransaction(connection, self._clock, self._steady)
                for work in self._group(first):
                    group.append(work)
                    self._run_one(unit, work, is_first=work is first)
                    for clock in ("now", "steady"):  # each function reads them anew
                        unit.__dict__.pop(clock, None)
        except _Undone:
            pass
        except SQLAlchemyError as exc:
            group = group or [first]  # where even BEGIN was refused
            log.error("store.commit_failed", functions=len(group), error=str(exc.__cause__ or exc))
            for work in group:
                work.error = _unavailable(exc)
        return group

    def _group(self, first: _Work) -> Iterator[_Work]:
        yield first
        for _ in range(_GROUP - 1):
            try:
                following = self._work.get_nowait()
            except Empty:
                return
            if following is None:
                self._work.put(None)
                return
            yield following

    def _run_one(self, unit: SqlTransaction, work: _Work, *, is_first: bool) -> None:
        """A function that raises undoes itself alone: by a savepoint, or, as the first, by the end of the group."""
        if not is_first:
            unit.connection.control("SAVEPOINT work")
        try:
            work.result = work.function(unit)
        except OperationalError:
            # The disk may be full or the file damaged: SQLite may have ended the transaction, so the group ends.
            raise
        except BaseException as exc:
            work.error = exc
            if is_first:
                raise _Undone from exc
            unit.connection.control("ROLLBACK TO work")
        if not is_first:
            unit.connection.control("RELEASE work")


class _Undone(Exception):
    """The first function of a group raised, and nothing else had run: the transaction is rolled back."""


@contextmanager
def _transaction(connection: Connection, begin: str) -> Iterator[None]:
    """A transaction begun and ended by the driver: SQLAlchemy takes longer for that than for a read."""
    driver: Any = connection.connection.driver_connection
    short = sql.Connection(connection)
    short.control(begin)
    try:
        yield
        short.control("COMMIT")
    finally:
        driver.rollback()  # nothing, unless something was raised
        if connection.in_transaction():  # SQLAlchemy's own notion, where one of its statements ran
            connection.rollback()


def _call(work: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any], unit: Transaction) -> R:
    return work(unit, *args, **kwargs)


def _resolve(group: list[_Work]) -> None:
    for work in group:
        if work.future.done():  # cancelled by its caller; the work is done all the same
            continue
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.result)


def sqlite_engine(path: Path, synchronous: str, *, read_only: bool = False) -> Engine:
    # isolation_level None: we begin and end transactions; the driver would begin them late.
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 30, "cached_statements": 512},
        **({"pool_size": _READERS, "max_overflow": 0} if read_only else {"poolclass": NullPool}),
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            f"wal_autocheckpoint = {_MOST_LOG_PAGES}",
            f"cache_size = -{_CACHE_KIB}",
            "foreign_keys = ON",
            f"query_only = {'ON' if read_only else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


class PostgresStore:
    """A database that many processes share; each transaction takes a pooled connection in a thread."""

    def __init__(self, url: str, *, connections: int = 8) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = create_engine(
            postgres_url(url),
            connect_args=dict(CONNECT_ARGUMENTS),
            # Claims count what the claim before them committed, whatever the database's own default is.
            isolation_level="READ COMMITTED",
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            pool_recycle=3600,
        )
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="store")
        try:
            migrate(self._engine)
        except DBAPIError as exc:
            reason = str(exc.orig).strip()
            raise SetupError(f"PostgreSQL cannot be used: {reason}", "check --database and that it accepts us") from exc

    @property
    def engine(self) -> Engine:
        return self._engine

    async def run(self, work: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._loop.run_in_executor(self._threads, self._run, partial(_call, work, args, kwargs))

    read = run

    def _run(self, function: Callable[[Transaction], R]) -> R:
        for remaining in reversed(range(_TRIES)):
            try:
                return self._run_once(function)
            except _Again as again:
                if not remaining:
                    raise _unavailable(again.error) from again.error
        raise AssertionError("unreachable: the last try returns or raises")

    def _run_once(self, function: Callable[[Transaction], R]) -> R:
        is_committing = False
        try:
            with self._engine.begin() as connection:
                result = function(SqlTransaction(connection, system_clock))
                is_committing = True
            return result
        except DBAPIError as exc:
            # Before COMMIT nothing can have happened, so a lost connection may be tried again; during it, never.
            is_retried = getattr(exc.orig, "sqlstate", None) in _RETRIED_STATES
            if not is_committing and (exc.connection_invalidated or is_retried):
                raise _Again(exc) from exc
            raise _unavailable(exc) from exc
        except SQLAlchemyError as exc:
            raise _unavailable(exc) from exc

    async def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()


class _Again(Exception):
    def __init__(self, error: DBAPIError) -> None:
        super().__init__(str(error))
        self.error = error


def _unavailable(exc: BaseException) -> ServiceUnavailable:
    reason = str(getattr(exc, "orig", None) or exc).strip().splitlines()[0]
    return ServiceUnavailable(f"the store cannot take this now: {reason}")


def open_store(database: str, data: Path) -> Store:
    """The store that `--database` names: "" is the SQLite file in the data folder."""
    if database:
        return PostgresStore(database)
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise SetupError(
            f"Python's SQLite is {sqlite3.sqlite_version}; 3.35 or later is needed",
            "use a newer Python, or --database postgresql://…",
        )
    return SqliteStore(data / "cloudfinite.db", steady=steady_clock())

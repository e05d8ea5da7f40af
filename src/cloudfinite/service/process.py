"""Operations whose answer the client waits for: the same path as a job's run, without the queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cloudfinite.domain.job import JobInput
from cloudfinite.errors import (
    EngineFailed,
    InputDownloadFailed,
    InputMissing,
    InternalError,
    InvalidArgument,
    JobFailed,
    NoSuchKey,
    RequestError,
    ServiceUnavailable,
    SlowDown,
    SourceDownloadFailed,
    SourceNotSupported,
    UnreadableInput,
    UnsupportedOption,
)
from cloudfinite.ports import Pool, Task
from cloudfinite.service.sources import Sources
from cloudfinite.wire.operation import Operation


class ProcessService:
    """Runs one operation for a waiting client. At most `limit` clients wait at once; more are told to slow down.

    `check_bound` raises for a bucket that takes no such calls. Wire: a service need not be open for them.
    """

    def __init__(self, sources: Sources, pool: Pool, limit: int, check_bound: Callable[[str], Awaitable[None]]) -> None:
        self._check_bound = check_bound
        self._sources = sources
        self._pool = pool
        self._limit = limit
        self._waiting = 0

    async def run(self, request_id: str, bucket: str, key: str, url: str, operation: Operation, params: object) -> Any:
        """The operation's result. `key` wins over `url`. Raises RequestError with the failure's code."""
        if self._pool.size == 0:
            raise ServiceUnavailable("this process runs no operations; ask one with the role all or worker")
        if self._waiting >= self._limit:
            raise SlowDown(f"{self._waiting} synchronous calls are waiting; try again")
        self._waiting += 1
        try:
            await self._check_bound(bucket)
            wanted = JobInput(object_key=key) if key else JobInput(url=url)
            async with self._sources.opened(bucket, wanted) as source:
                task = Task(
                    tag=operation.tag,
                    params=operation.params_data(params),
                    source=source.path,
                    name=source.name,
                    size_bytes=source.size_bytes,
                    etag=source.etag,
                    last_modified=source.last_modified,
                    label=request_id,
                )
                return operation.result_value(await self._pool.run(task))
        except JobFailed as exc:
            raise _request_error(exc, key) from exc
        finally:
            self._waiting -= 1


def _request_error(failure: JobFailed, key: str) -> RequestError:
    """The failure of a run as the answer of a call: what the client sent is 400, what we lack is 5xx."""
    match failure:
        case InputMissing() if key:
            return NoSuchKey(f"the object {key!r} does not exist")
        case UnreadableInput():
            return SourceNotSupported(failure.message)
        case InputDownloadFailed():
            return SourceDownloadFailed(failure.message)
        case UnsupportedOption():
            return InvalidArgument(failure.message)
        case EngineFailed():
            return InternalError(failure.message)
    return ServiceUnavailable(failure.message) if failure.retryable else SourceNotSupported(failure.message)

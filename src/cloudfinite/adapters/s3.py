"""Buckets that live in S3-compatible storage, COS by its S3 endpoint among them: a client of just the calls we need.

Connections go to the endpoint that the operator set, and nowhere else: neither redirects nor a proxy nor anything of
AWS's environment is followed (docs/decisions/0012). Bodies are sent from memory in pieces of bounded size, so each
request can be signed whole and sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import structlog
from yarl import URL

from cloudfinite.domain.objects import ListQuery, ObjectPage, StoredObject
from cloudfinite.errors import (
    InvalidArgument,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    RequestError,
    SetupError,
    StorageRefused,
    StorageUnavailable,
)
from cloudfinite.ports import BytesReader, Clock
from cloudfinite.wire import s3
from cloudfinite.wire.s3 import Credentials

R = TypeVar("R")

log = structlog.get_logger()

_PART_BYTES = 8 << 20  # Wire: at least 5 MiB for all parts but the last. Smaller objects go in one request.
_MAX_PARTS = 10_000
_BUFFERS = 16  # parts in memory at once, of all uploads to one storage
_MAX_COPY_BYTES = 5 << 30  # Wire: Amazon S3, "CopyObject".
_READ_BYTES = 1 << 18
_MAX_ANSWER_BYTES = 16 << 20  # a list of 1,000 keys of 1,024 bytes, each byte encoded, takes 4 MB
_HASHED_AT_ONCE = 1 << 18  # more is hashed beside the event loop
_TRIES = 3
_FIRST_PAUSE_S = 0.1
_CONNECT_S = 5.0
_READ_S = 60.0
_BUSY = frozenset({429, 500, 502, 503, 504})
_OURS = ("Accept-Encoding", "Accept", "Content-Type", "User-Agent")  # aiohttp would set them by itself
_CHANGED = "the object changed while it was read; try again"


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where a bucket of another system is. `endpoint` as in `https://cos.ap-chongqing.myqcloud.com`.

    is_path_style: the bucket is the first part of the path; else the first label of the host. has_opaque_keys: any two
    keys are two objects there; a storage that is built on folders takes `a//b` for `a/b`.
    """

    bucket: str
    endpoint: str
    credentials: Credentials
    is_path_style: bool = True
    has_opaque_keys: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class S3Storage:
    """`ports.Storage` by the S3 API; `bucket` is the name of our bucket that `place` stands for."""

    is_read_only = False

    def __init__(
        self, bucket: str, place: S3Place, clock: Clock, *, tells_creations: bool = False, ca_file: Path | None = None
    ) -> None:
        """tells_creations: whether the storage tells of each new object by itself, ours too (`/-/events/s3`)."""
        self.tells_creations = tells_creations
        self._bucket = bucket
        self._place = place
        self._clock = clock
        base = urlsplit(place.endpoint.rstrip("/"))
        if base.scheme not in ("http", "https") or not base.hostname or base.query or base.username:
            raise SetupError(f"the endpoint {place.endpoint!r} of {bucket} is no http or https address", "correct it")
        self._host = base.netloc if place.is_path_style else f"{place.bucket}.{base.netloc}"
        self._path = s3.encode_path(base.path + (f"/{place.bucket}" if place.is_path_style else ""))
        self._base = f"{base.scheme}://{self._host}"
        self._tls = _tls_context(ca_file) if base.scheme == "https" else None
        self._buffers = asyncio.Semaphore(_BUFFERS)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self) -> None:
        try:
            await self.select(ListQuery(size=1))
        except StorageUnavailable as exc:
            log.warning("storage.unavailable", bucket=self._bucket, reason=exc.message)
        except NoSuchBucket as exc:
            raise SetupError(exc.message, "make it there first, or correct the setting buckets") from exc
        except RequestError as exc:
            raise SetupError(exc.message, f"check the credentials and the region of {self._bucket}") from exc

    # --- read -------------------------------------------------------------------------------------------------------

    async def find(self, key: str) -> StoredObject:
        answer = await self._ask("HEAD", key)
        return self._read(lambda: s3.stored_object(self._bucket, key, answer.headers, _modified_at(answer.headers)))

    async def select(self, wanted: ListQuery) -> ObjectPage:
        if not wanted.size:
            return ObjectPage()
        answer = await self._ask("GET", query=s3.list_pairs(wanted))
        page = self._read(lambda: s3.read_list(answer.body, self._bucket))
        # Storages differ in whether the common prefix that the marker lies in comes again.
        behind = tuple(name for name in page.common_prefixes if not wanted.marker.startswith(name))
        return replace(page, common_prefixes=behind)

    async def reader(self, item: StoredObject, start: int, size_bytes: int) -> BytesReader:
        if not size_bytes:
            return _Nothing()
        headers = {"If-Match": item.etag}
        if size_bytes != item.size_bytes:
            headers["Range"] = f"bytes={start}-{start + size_bytes - 1}"
        for attempt in range(_TRIES):
            try:
                response = await self._send("GET", item.key, "", headers)
                return await self._opened(item.key, response, size_bytes)
            except StorageUnavailable:
                if attempt + 1 == _TRIES:
                    raise
            except PreconditionFailed as exc:
                raise StorageUnavailable(_CHANGED) from exc
            await _pause(attempt)
        raise AssertionError("the last try returns or raises")

    async def _opened(self, key: str, response: aiohttp.ClientResponse, size_bytes: int) -> BytesReader:
        if response.status in (200, 206) and response.headers.get("Content-Length") == str(size_bytes):
            return _S3Reader(response, size_bytes)
        if response.status in (200, 206):
            response.close()
            raise StorageUnavailable("the storage answers with another range of bytes than was asked for")
        async with _told(response):
            raise self._error("GET", key, response.status, await _body(response))

    # --- write ------------------------------------------------------------------------------------------------------

    async def put(self, item: StoredObject, source: BytesReader) -> StoredObject:
        self._check_key(item)
        headers = s3.object_headers(item)
        if item.size_bytes <= _PART_BYTES:
            async with self._buffers:
                data = await _Cut(source).take(item.size_bytes)
                answer = await self._ask("PUT", item.key, headers=headers, body=data)
            etag = answer.headers.get("ETag", "")
        else:
            etag = await self._put_in_parts(item, headers, source)
        return replace(item, etag=etag, modified_at=self._clock())

    async def _put_in_parts(self, item: StoredObject, headers: Mapping[str, str], source: BytesReader) -> str:
        started = await self._ask("POST", item.key, [("uploads", "")], headers)
        upload = ("uploadId", self._read(lambda: s3.read_upload_id(started.body)))
        try:
            etags = await self._send_parts(item, upload, source)
            done = await self._ask("POST", item.key, [upload], body=[s3.completion(etags)])
            return self._read(lambda: s3.read_etag(done.body, "CompleteMultipartUploadResult"))
        except BaseException:
            # A storage that is away keeps the parts; docs/remote-buckets.md says how it is told to drop them.
            with suppress(RequestError):
                await asyncio.shield(self._ask("DELETE", item.key, [upload]))
            raise

    async def _send_parts(self, item: StoredObject, upload: tuple[str, str], source: BytesReader) -> list[str]:
        part_bytes = max(_PART_BYTES, -(-item.size_bytes // _MAX_PARTS))
        cut = _Cut(source)
        etags: list[str] = []
        sending: asyncio.Task[str] | None = None  # The next part is read while the last one is sent.
        try:
            for start in range(0, item.size_bytes, part_bytes):
                await self._buffers.acquire()
                try:
                    data = await cut.take(min(part_bytes, item.size_bytes - start))
                    if sending:
                        etags.append(await sending)
                except BaseException:
                    self._buffers.release()
                    raise
                sending = asyncio.create_task(self._send_part(item.key, upload, len(etags) + 1, data))
            if sending:
                etags.append(await sending)
        finally:
            if sending and not sending.done():
                sending.cancel()
        return etags

    async def _send_part(self, key: str, upload: tuple[str, str], number: int, data: Sequence[bytes]) -> str:
        try:
            answer = await self._ask("PUT", key, [("partNumber", str(number)), upload], body=data)
        finally:
            self._buffers.release()
        return answer.headers.get("ETag", "")

    def _check_key(self, item: StoredObject) -> None:
        """Raises InvalidArgument for a new object that storages built on folders would confuse with another, or empty.

        One is refused, and not stored, because the other would be lost without a word.
        """
        if self._place.has_opaque_keys:
            return
        *folders, name = item.key.split("/")
        if "\\" in item.key or not {"", ".", ".."}.isdisjoint(folders) or name in (".", ".."):
            raise InvalidArgument(f"the storage of {self._bucket} may take the key {item.key!r} for another one")
        if not name and item.size_bytes:
            raise InvalidArgument(f"the storage of {self._bucket} takes {item.key!r} for a folder, which has no bytes")

    async def copy(self, source: StoredObject, target: StoredObject) -> StoredObject:
        self._check_key(target)
        if source.size_bytes > _MAX_COPY_BYTES:
            reader = await self.reader(source, 0, source.size_bytes)
            try:
                return await self.put(target, reader)
            finally:
                await reader.close()
        headers = {
            **s3.object_headers(target),
            "x-amz-copy-source": s3.encode_path(f"/{self._place.bucket}/{source.key}"),
            "x-amz-copy-source-if-match": source.etag,
            "x-amz-metadata-directive": "REPLACE",
        }
        try:
            answer = await self._ask("PUT", target.key, headers=headers)
        except PreconditionFailed as exc:
            raise StorageUnavailable(_CHANGED) from exc
        etag = self._read(lambda: s3.read_etag(answer.body, "CopyObjectResult"))
        return replace(target, etag=etag, modified_at=self._clock())

    async def delete(self, key: str) -> None:
        with suppress(NoSuchKey):
            await self._ask("DELETE", key)

    # --- one request ------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        key: str = "",
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
    ) -> _Answer:
        """Send a request, again when the storage is busy or away. Raises RequestError for any answer but 2xx."""
        for attempt in range(_TRIES):
            try:
                response = await self._send(method, key, s3.encode_query(query), headers or {}, body)
                async with _told(response):
                    answer = _Answer(response.status, response.headers, await _body(response))
                if answer.status // 100 == 2:
                    return answer
                raise self._error(method, key, answer.status, answer.body)
            except StorageUnavailable:
                if attempt + 1 == _TRIES:
                    raise
            await _pause(attempt)
        raise AssertionError("the last try returns or raises")

    async def _send(
        self, method: str, key: str, query: str, headers: Mapping[str, str], body: Sequence[bytes] = ()
    ) -> aiohttp.ClientResponse:
        path = f"{self._path}/{s3.encode_path(key)}"
        size_bytes = sum(map(len, body))
        digest = _sha256(body) if size_bytes < _HASHED_AT_ONCE else await asyncio.to_thread(_sha256, body)
        asked = {**headers, "Host": self._host, "Accept-Encoding": "identity"}
        signed = s3.sign(method, path, query, asked, digest, self._place.credentials, self._clock())
        if method in ("PUT", "POST"):
            signed["Content-Length"] = str(size_bytes)
        url = URL(f"{self._base}{path}" + (f"?{query}" if query else ""), encoded=True)
        try:
            return await self._connections().request(
                method, url, headers=signed, data=_stream(body) if body else None, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise StorageUnavailable(f"the storage of {self._bucket} does not answer ({_reason(exc)})") from exc

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No limit on connections: slow readers would keep everybody else waiting for theirs.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S),
                skip_auto_headers=_OURS,
                auto_decompress=False,  # An object's bytes are given back as they are.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _error(self, method: str, key: str, status: int, body: bytes) -> RequestError:
        code, message = s3.read_error(body)
        told = f"{status} {code}: {message}".rstrip(": ")
        if code == "NoSuchBucket":
            return NoSuchBucket(f"the bucket {self._place.bucket}, which keeps the objects of {self._bucket}, is gone")
        if status == 404:
            return NoSuchKey(f"the object {key!r} does not exist")
        if status == 412:
            return PreconditionFailed()
        log.warning("storage.refused", bucket=self._bucket, method=method, key=key, status=status, code=code)
        if status in _BUSY:
            return StorageUnavailable(f"the storage of {self._bucket} answers {told}")
        if code in ("KeyTooLongError", "KeyTooLong", "InvalidArgument"):
            return InvalidArgument(f"the storage of {self._bucket} does not take this: {message}")
        return StorageRefused(f"the storage of {self._bucket} answers {told}")

    def _read(self, parse: Callable[[], R]) -> R:
        try:
            return parse()
        except s3.UnreadableAnswer as exc:
            raise StorageRefused(str(exc)) from exc


class _S3Reader:
    """`ports.BytesReader` of one answer; a slow client holds up the storage's sending."""

    def __init__(self, response: aiohttp.ClientResponse, size_bytes: int) -> None:
        self._response = response
        self._left_bytes = size_bytes

    async def read(self) -> bytes:
        if not self._left_bytes:
            return b""
        try:
            data = await self._response.content.read(_READ_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise StorageUnavailable(f"the storage broke off ({_reason(exc)})") from exc
        if not data:
            raise StorageUnavailable("the storage sent fewer bytes than it said")
        self._left_bytes -= len(data)
        return data

    async def close(self) -> None:
        self._response.close() if self._left_bytes else self._response.release()


class _Nothing:
    """`ports.BytesReader` of no bytes."""

    async def read(self) -> bytes:
        return b""

    async def close(self) -> None:
        """Nothing is open."""


class _Cut:
    """Bytes of a reader in amounts of the caller's choice."""

    def __init__(self, source: BytesReader) -> None:
        self._source = source
        self._rest = b""

    async def take(self, size_bytes: int) -> Sequence[bytes]:
        """Exactly so many, in chunks that are sent as they came: joining them would take the memory twice."""
        chunks: list[bytes] = []
        while size_bytes > 0:
            chunk = self._rest or await self._source.read()
            if not chunk:
                raise StorageUnavailable("the bytes to store ended early")
            self._rest = chunk[size_bytes:]
            chunks.append(chunk[:size_bytes] if self._rest else chunk)
            size_bytes -= len(chunks[-1])
        return chunks


@asynccontextmanager
async def _told(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """Reads an answer inside the block; afterwards its connection is free."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise StorageUnavailable(f"the storage broke off ({_reason(exc)})") from exc
    finally:
        response.release()


async def _body(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    while chunk := await response.content.read(_READ_BYTES):
        data += chunk
        if len(data) > _MAX_ANSWER_BYTES:
            response.close()
            raise StorageRefused(f"the storage's answer has more than {_MAX_ANSWER_BYTES} bytes")
    return bytes(data)


def _sha256(chunks: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


async def _stream(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _modified_at(headers: Mapping[str, str]) -> datetime:
    try:
        return parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC)
    except (KeyError, ValueError) as exc:
        raise s3.UnreadableAnswer("the storage does not tell when the object was modified") from exc


def _reason(exc: Exception) -> str:
    """A word for people: the exceptions' own texts hold addresses."""
    return "timeout" if isinstance(exc, TimeoutError) else type(exc).__name__


async def _pause(attempt: int) -> None:
    await asyncio.sleep(_FIRST_PAUSE_S * 4**attempt)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)  # checked by the outgoing client, which starts with the same file
    return context

"""One request as the handlers see it: routed, authenticated, with its query decoded and its body bounded."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDictProxy

from cloudfinite.domain.access import NOTHING, Action, Grant
from cloudfinite.errors import (
    AccessDenied,
    BadDigest,
    ContentTooLarge,
    IncompleteBody,
    InvalidContent,
    InvalidDigest,
    RequestTimeout,
)

# Re-exported: handlers know hosts by their kind only.
from cloudfinite.wire.routing import HostKind as HostKind

BODY_TIME_LIMIT_S = 60  # For bodies read whole, at most 1 MiB; a dribbling client holds a connection no longer.


@dataclass(frozen=True, slots=True)
class Query:
    """The query's pairs in order, decoded once. Empty values count as absent in `get`."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """The first non-empty value of `name`; letter case does not matter."""
        wanted = name.lower()
        return next((value for key, value in self.pairs if key.lower() == wanted and value), default)

    def has(self, name: str) -> bool:
        wanted = name.lower()
        return any(key.lower() == wanted for key, _ in self.pairs)


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is decoded once and starts with `/`; `bucket` is the host's, or the default bucket.

    `secret_id` is who signed it, "" where nobody did; `grant` is what this somebody or nobody may do. `http` is
    aiohttp's own request, for streaming.
    """

    id: str
    method: str
    kind: HostKind
    host: str
    bucket: str
    region: str
    path: str
    query: Query
    headers: CIMultiDictProxy[str]
    secret_id: str
    http: web.BaseRequest
    is_ci: bool = False
    """Whether it speaks the API's dialect of errors, not the object store's."""
    grant: Grant = NOTHING

    @property
    def is_page(self) -> bool:
        """Whether it is for one of our own pages."""
        return self.kind is HostKind.OWN and (self.path == "/-" or self.path.startswith("/-/"))

    @property
    def segments(self) -> list[str]:
        """The parts of the path: `/jobs/a,b` gives `["jobs", "a,b"]`."""
        return self.path.removeprefix("/").split("/")

    @property
    def key(self) -> str:
        """The object key that the path names on a bucket's host."""
        return self.path.removeprefix("/")

    def check(self, action: Action, key: str = "", bucket: str = "") -> None:
        """Raises AccessDenied unless the signer may do this to the key, or without one to the bucket as a whole.

        The bucket is the request's unless named.
        """
        if not self.grant.allows(action, bucket or self.bucket, key):
            raise AccessDenied(f"this key may not {action.wire} {key or 'all of'} in {bucket or self.bucket}")

    async def body(self, limit_bytes: int = 1_048_576) -> bytes:
        """The whole body, checked against Content-MD5 when that is there.

        Raises ContentTooLarge beyond the limit, before more than that is held in memory; RequestTimeout,
        IncompleteBody; InvalidContent (COS hosts: InvalidDigest, BadDigest) when the digest is wrong.
        """
        if (self.http.content_length or 0) > limit_bytes:
            raise ContentTooLarge(f"the body has {self.http.content_length} bytes; at most {limit_bytes} are allowed")
        if self.http.content.is_eof() and self.http.content.exception() is None:
            body = self.http.content.read_nowait()  # A small body came with its head: the common case, without a timer.
            if len(body) > limit_bytes:
                raise ContentTooLarge(f"the body has more than {limit_bytes} bytes")
        else:
            body = await self._collect(limit_bytes)
        self._check_md5(body)
        return body

    async def _collect(self, limit_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIME_LIMIT_S):
                async for chunk in self.stream():
                    size += len(chunk)
                    if size > limit_bytes:
                        raise ContentTooLarge(f"the body has more than {limit_bytes} bytes")
                    parts.append(chunk)
        except TimeoutError as exc:
            raise RequestTimeout(f"the body did not arrive within {BODY_TIME_LIMIT_S} s") from exc
        return b"".join(parts)

    def _check_md5(self, body: bytes) -> None:
        # Wire: Cloud Infinite documentation, "Error Codes": InvalidContent; COS documentation: the other two.
        expected = self.headers.get("Content-MD5")
        if not expected:
            return
        is_ci = self.kind is HostKind.CI
        try:
            digest = base64.b64decode(expected, validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 16:
            raise (InvalidContent if is_ci else InvalidDigest)("Content-MD5 is not the base64 text of 16 bytes.")
        if digest != hashlib.md5(body, usedforsecurity=False).digest():
            raise (InvalidContent if is_ci else BadDigest)("The body's MD5 differs from Content-MD5.")

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in chunks as they arrive. Raises IncompleteBody, or RequestTimeout when nothing comes for long."""
        content = self.http.content
        try:
            while chunk := await content.readany():
                yield chunk
        except TimeoutError as exc:
            raise RequestTimeout("the body stopped arriving") from exc
        except (ConnectionError, web.RequestPayloadError) as exc:
            raise IncompleteBody() from exc


Handler = Callable[[Request], Awaitable[web.StreamResponse]]

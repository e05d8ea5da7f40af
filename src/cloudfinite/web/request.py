"""One request as the handlers see it: routed, authenticated, with its query decoded and its body bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web
from multidict import CIMultiDictProxy

from cloudfinite.errors import ContentTooLarge


class HostKind(StrEnum):
    """What the host of a request asks for; OWN is a name or address without a bucket in it."""

    CI = "ci"
    COS = "cos"
    PIC = "pic"
    SERVICE = "service"
    OWN = "own"


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

    `secret_id` is who signed it, "" for an anonymous request to a public page. `http` is aiohttp's own request, for
    streaming.
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

    @property
    def segments(self) -> list[str]:
        """The parts of the path: `/jobs/a,b` gives `["jobs", "a,b"]`."""
        return self.path.removeprefix("/").split("/")

    @property
    def key(self) -> str:
        """The object key that the path names on a bucket's host."""
        return self.path.removeprefix("/")

    async def body(self, limit_bytes: int = 1_048_576) -> bytes:
        """The whole body. Raises ContentTooLarge beyond the limit, before more than that is held in memory."""
        if (self.http.content_length or 0) > limit_bytes:
            raise ContentTooLarge(f"the body has {self.http.content_length} bytes; at most {limit_bytes} are allowed")
        parts: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise ContentTooLarge(f"the body has more than {limit_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)

    def stream(self) -> AsyncIterator[bytes]:
        """The body in chunks as they arrive."""
        return self.http.content.iter_any()


Handler = Callable[[Request], Awaitable[web.StreamResponse]]

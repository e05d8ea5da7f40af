"""Puts files into a bucket of the running server, with credentials that may do this and nothing else."""

from __future__ import annotations

import http.client
import mimetypes
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from cloudfinite.cli.client import Client, Refused
from cloudfinite.errors import CloudfiniteError, SetupError
from cloudfinite.wire.signature import sign

_LIFETIME_S = 3_600
_MARGIN_S = 300  # Credentials are renewed before a file that they might not outlast.
_WAIT_S = 60.0
_MAX_BUCKETS = 10_000
MTIME_HEADER = "x-cos-meta-mtime-ns"


class UploadRefused(CloudfiniteError):
    """The server did not take this file."""


class ServerAway(CloudfiniteError):
    """The server does not answer; later it may."""


@dataclass(frozen=True, slots=True)
class _Pair:
    secret_id: str
    secret_key: str
    token: str
    until_s: float


class Uploader:
    """Puts objects below `prefix` into one bucket. Raises UploadRefused, ServerAway, and what `Client.call` raises."""

    def __init__(self, client: Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._pair: _Pair | None = None
        self._host = ""

    def prepare(self) -> None:
        """Get ready for the first file, so that what will never work is told at once."""
        self._credentials()

    def put(self, key: str, file: BinaryIO, size_bytes: int, mtime_ns: int) -> None:
        headers = {
            "Content-Length": str(size_bytes),
            "Content-Type": mimetypes.guess_type(key)[0] or "application/octet-stream",
            MTIME_HEADER: str(mtime_ns),
        }
        status, _, body = self._request("PUT", key, headers, file)
        if status != 200:
            raise _refusal(status, body)

    def has(self, key: str, size_bytes: int, mtime_ns: int) -> bool:
        """Whether the object is there as `put` would make it."""
        status, headers, body = self._request("HEAD", key, {}, None)
        if status == 404:
            return False
        if status != 200:
            raise _refusal(status, body)
        return (headers.get("content-length"), headers.get(MTIME_HEADER)) == (str(size_bytes), str(mtime_ns))

    def _request(
        self, method: str, key: str, headers: Mapping[str, str], body: BinaryIO | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        pair = self._credentials()
        at = urlsplit(self._client.url)
        now_s = int(time.time())
        path = "/" + key
        authorization = sign(
            method, path, secret_id=pair.secret_id, secret_key=pair.secret_key, start_s=now_s - 60,
            end_s=now_s + _LIFETIME_S, headers=[("host", self._host)],
        )  # fmt: skip
        sent = {**headers, "Host": self._host, "Authorization": authorization, "x-cos-security-token": pair.token}
        kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
        connection = kind(at.hostname or "", at.port, timeout=_WAIT_S)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # It may have answered before it had all.
                connection.request(method, quote(path), body, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (OSError, http.client.HTTPException) as exc:
            raise ServerAway(f"{self._client.url}: {exc or type(exc).__name__}") from exc
        finally:
            connection.close()

    def _credentials(self) -> _Pair:
        if self._pair is None or self._pair.until_s - _MARGIN_S < time.time():
            try:
                self._pair = self._issue()
            except SetupError as exc:
                raise ServerAway(exc.message) from exc
        return self._pair

    def _issue(self) -> _Pair:
        """Raises Refused when there is no such bucket or no key to derive from; SetupError when no server answers."""
        region = _region_of(self._client.pages("/buckets", {}, _MAX_BUCKETS)["items"], self._bucket)
        self._host = f"{self._bucket}.cos.{region}.myqcloud.com"
        enabled = [key["secret_id"] for key in self._client.call("GET", "/keys")["items"] if key["is_enabled"]]
        if not enabled:
            raise Refused("the server has no enabled access key; see `cloudfinite keys`")
        rule = {"buckets": [self._bucket], "prefixes": [self._prefix], "actions": ["cos:PutObject", "cos:HeadObject"]}
        body = {"secret_id": enabled[0], "lifetime_s": _LIFETIME_S, "policy": [rule]}
        made = self._client.call("POST", "/credentials", body=body)
        return _Pair(made["secret_id"], made["secret_key"], made["token"], time.time() + _LIFETIME_S)


def _region_of(buckets: Sequence[Mapping[str, Any]], name: str) -> str:
    for bucket in buckets:
        if bucket["name"] == name:
            return str(bucket["region"])
    raise Refused(f"there is no bucket {name}; there are {', '.join(bucket['name'] for bucket in buckets) or 'none'}")


def _refusal(status: int, body: bytes) -> UploadRefused | ServerAway:
    try:
        words = ElementTree.fromstring(body).findtext("Message") or ""
    except ElementTree.ParseError:
        words = ""
    message = f"{status} {words}".strip()
    return ServerAway(message) if status >= 500 else UploadRefused(message)

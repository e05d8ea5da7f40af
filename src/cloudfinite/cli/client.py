"""The commands' way to the running server: its JSON API over plain HTTP, found by the data folder or by address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cloudfinite.errors import CloudfiniteError, SetupError

_ROOT = "/-/api/v1"
_WAIT_S = 60.0
_PAGE = 200  # the API's largest
_ADVICE = "start one with `cloudfinite serve`, or name it with --data DIR or --server URL"


class Refused(CloudfiniteError):
    """The server refused."""


class Client:
    """Calls one server's API. `where` is how messages call it."""

    def __init__(self, url: str, token: str, where: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._where = where

    @property
    def url(self) -> str:
        return self._url

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        wait_s: float = _WAIT_S,
    ) -> dict[str, Any]:
        """The answer; what is None or empty in `query` is left out.

        Raises Refused, or SetupError when no server answers.
        """
        import http.client
        import urllib.error
        import urllib.request

        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        url = f"{self._url}{_ROOT}{path}{'?' + urlencode(given) if given else ''}"
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        # No proxy of the environment: the server is this machine's, or named by its address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(url, data, headers, method=method)
            with opener.open(request, timeout=wait_s) as answer:
                return self._read(answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                raise _refusal(exc.code, exc.read()) from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            reason = getattr(exc, "reason", None) or exc
            raise SetupError(f"no server answers at {self._where}: {reason}", _ADVICE) from exc

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SetupError(f"what answers at {self._where} is no cloudfinite server", _ADVICE)
        return answer

    def pages(self, path: str, query: Mapping[str, Any], limit: int) -> dict[str, Any]:
        """Up to `limit` items of a list as one page."""
        items: list[Any] = []
        following: str | None = ""
        while following is not None and len(items) < limit:
            page = self.call("GET", path, query={**query, "after": following, "size": min(_PAGE, limit - len(items))})
            items += page["items"]
            following = page["next"]
        return {"items": items, "next": following}


def part(text: str) -> str:
    """`text` as one part of a path."""
    return quote(text, safe="")


def _refusal(status: int, body: bytes) -> Refused:
    """The server's own words; answers of the edge before the API have another form."""
    try:
        answer = json.loads(body)
        error = answer.get("error") or answer
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return Refused(f"the server answered {status} and says not why")
    request_id = error.get("request_id") or error.get("requestid")
    return Refused(f"{code}: {message}" + (f" (request {request_id})" if status >= 500 and request_id else ""))


def find_server(data: Path, *, server: str = "", token: str = "") -> Client:
    """The server at `server`, else the one that runs on the data folder, whose token it is.

    Raises SetupError when none does. The folder's token goes to the folder's own server only.
    """
    if server:
        url = server if "://" in server else f"http://{server}"
        if not url.startswith(("http://", "https://")):
            raise SetupError(f"--server is {server!r}", "write http://HOST:PORT")
        return Client(url, token, url)
    try:
        url = (data / "address").read_text().strip()
    except OSError as exc:
        raise SetupError(f"no server runs on the data folder {data}", _ADVICE) from exc
    if not token:
        try:
            token = (data / "admin.token").read_text().strip()
        except OSError as exc:
            raise SetupError(
                f"the admin token {data / 'admin.token'} cannot be read: {exc.strerror}", "give it with --token"
            ) from exc
    return Client(url, token, f"{url}, where the data folder {data} had one")

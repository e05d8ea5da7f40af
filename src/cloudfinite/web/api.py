"""The JSON API below `/-/api/v1/`: finds the operation, reads what it takes, answers JSON; errors are JSON too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from cloudfinite.errors import InvalidUrl, MethodNotAllowed, RequestError
from cloudfinite.web import replies
from cloudfinite.web.api_openapi import describe
from cloudfinite.web.api_routes import Group, Route, check_texts, collect_routes, read_json, read_query
from cloudfinite.web.request import Request
from cloudfinite.wire.operation import Operation

ROOT = "/-/api/v1"

_DESCRIPTION = ["openapi.json"]
_MAX_MESSAGE_CHARS = 1_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class Api:
    """The door of `/-/api/…`. Who may use it is the guard's business."""

    def __init__(self, groups: Sequence[Group], operations: Mapping[str, Operation]) -> None:
        self.routes = collect_routes(groups)
        self.description = describe(self.routes, ROOT, operations)

    async def serve(self, request: Request) -> web.StreamResponse:
        try:
            return await self._serve(request)
        except RequestError as exc:
            return problem(request.id, exc)

    async def _serve(self, request: Request) -> web.StreamResponse:
        version, parts = request.segments[2:3], request.segments[3:]
        if version != ["v1"]:
            raise InvalidUrl(f"there is no {request.path}; the API is {ROOT}/, described by {ROOT}/openapi.json")
        if parts == _DESCRIPTION and request.method in ("GET", "HEAD"):
            return _json(self.description, 200)
        route, values = self._find(request, parts)
        check_texts([*values.values(), *(text for pair in request.query.pairs for text in pair)])
        arguments: dict[str, Any] = dict(values)
        if route.query:
            arguments["query"] = read_query(route.query, request.query)
        if route.body:
            arguments["body"] = read_json(route.body, await request.body())
        answer: BaseModel = await route.handler(**arguments)
        return _json(answer.model_dump(mode="json", by_alias=True), route.status)

    def _find(self, request: Request, parts: list[str]) -> tuple[Route, dict[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method
        allowed = set()
        for route in self.routes:
            values = route.match(parts)
            if values is not None and route.method == method:
                return route, values
            if values is not None:
                allowed.add(route.method)
        if allowed:
            raise MethodNotAllowed(
                f"{request.path} takes {', '.join(sorted(allowed))}", headers=(("Allow", ", ".join(sorted(allowed))),)
            )
        raise InvalidUrl(f"there is no {request.path}; {ROOT}/openapi.json lists what there is")


def problem(request_id: str, exc: RequestError) -> web.Response:
    """An error as the API writes it."""
    error = {"code": exc.code, "message": exc.message[:_MAX_MESSAGE_CHARS], "request_id": request_id}
    response = _json({"error": error}, exc.status)
    response.headers.extend(exc.headers)
    return response


def _json(value: Any, status: int) -> web.Response:
    # Stored text may hold half a surrogate pair, which UTF-8 has no bytes for and JSON an escape.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    body = _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()
    return web.Response(body=body, status=status, headers={"Content-Type": replies.JSON, "Cache-Control": "no-store"})

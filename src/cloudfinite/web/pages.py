"""Our own pages below `/-/`: health, readiness, metrics, and the doors to inbox, console and JSON API."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from cloudfinite.errors import InvalidUrl, MethodNotAllowed
from cloudfinite.web import replies
from cloudfinite.web.request import Handler, Request

Problems = Callable[[], list[str]]


class OwnPages:
    """Serves `/-/…`. `doors` are the handlers of whole subtrees by their first segment.

    problems tells why the process is not ready: one sentence each, none when it is.
    """

    def __init__(self, registry: CollectorRegistry, problems: Problems, doors: Mapping[str, Handler]) -> None:
        self._registry = registry
        self._problems = problems
        self._doors = doors

    async def serve(self, request: Request) -> web.StreamResponse:
        name = request.segments[1] if len(request.segments) > 1 else ""
        match name:
            case "":
                return replies.see_other(request, "/-/console/")
            case "health" | "ready" | "metrics":
                if request.method not in ("GET", "HEAD"):
                    raise MethodNotAllowed(headers=(("Allow", "GET, HEAD"),))
                return self._simple(request, name)
        if name in self._doors:
            return await self._doors[name](request)
        raise InvalidUrl(f"there is no page {request.path}")

    def _simple(self, request: Request, name: str) -> web.Response:
        if name == "metrics":
            return replies.data(request, generate_latest(self._registry), "text/plain; version=0.0.4; charset=utf-8")
        problems = self._problems() if name == "ready" else []
        if problems:
            return replies.text(request, "".join(f"{problem}\n" for problem in problems), status=503)
        return replies.text(request, "ok\n")

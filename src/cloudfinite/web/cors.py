"""Calls from pages of other origins: the preflight, the headers that let a page read an answer, and the rules.

Wire: COS documentation, "OPTIONS Object", "PUT Bucket cors"; Fetch Standard, "CORS protocol". No answer allows
credentials: requests are signed, and a page that cannot sign gets nothing that anybody could not get.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from cloudfinite.domain.cors import CorsRule, find_rule
from cloudfinite.errors import AccessForbidden, InvalidArgument, NoSuchBucket, NoSuchCorsConfiguration
from cloudfinite.service.buckets import BucketService
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire.cors import cors_document, read_cors

_MAX_DOCUMENT_BYTES = 64 << 10  # Wire: COS documentation, "PUT Bucket cors".


class CrossOrigin:
    """`OPTIONS` on every path of a bucket, `/?cors`, and what answers to pages carry.

    `default` are the rules of buckets that have none of their own.
    """

    def __init__(self, buckets: BucketService, default: Sequence[CorsRule]) -> None:
        self._buckets = buckets
        self._default = default

    async def preflight(self, request: Request) -> web.StreamResponse:
        """Raises InvalidArgument for what is no preflight, AccessForbidden when no rule lets the call in."""
        origin = request.headers.get("Origin", "")
        method = request.headers.get("Access-Control-Request-Method", "")
        if not origin or not method:
            raise InvalidArgument("a preflight needs the headers Origin and Access-Control-Request-Method")
        wanted = request.headers.get("Access-Control-Request-Headers", "")
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        rule = find_rule(await self._rules(request.bucket), origin, method, names)
        if rule is None:
            raise AccessForbidden(f"no CORS rule of the bucket lets {origin} send {method} with these headers")
        headers = [*_origin_headers(rule, origin), ("Access-Control-Allow-Methods", ", ".join(rule.methods))]
        if names:
            headers.append(("Access-Control-Allow-Headers", ", ".join(names)))
        if literal := [name for name in rule.exposed if "*" not in name]:
            headers.append(("Access-Control-Expose-Headers", ", ".join(literal)))
        if rule.max_age_s is not None:
            headers.append(("Access-Control-Max-Age", str(rule.max_age_s)))
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            headers.append(("Access-Control-Allow-Private-Network", "true"))
        return replies.empty(request, headers=headers)

    async def let_read(self, origin: str, bucket: str, method: str, response: web.StreamResponse) -> None:
        """Add the headers with which a browser hands the answer to a page of `origin`, if a rule lets it in."""
        try:
            rule = find_rule(await self._rules(bucket), origin, method)
        except NoSuchBucket:
            rule = find_rule(self._default, origin, method)  # The page shall see that the bucket does not exist.
        if rule is None:
            return
        for name, value in _origin_headers(rule, origin):
            response.headers.add(name, value)
        if response.status == 304:
            return  # A browser would put its shorter list in the place of that of the answer it has kept.
        # Fetch Standard: `*` alone would not do for requests with Authorization, so each name is told.
        # aiohttp sets the last two while it sends.
        if exposed := rule.exposed_of([*response.headers, "Content-Length", "Date"]):
            response.headers["Access-Control-Expose-Headers"] = ", ".join(dict.fromkeys(exposed))

    async def _rules(self, bucket: str) -> Sequence[CorsRule]:
        return (await self._buckets.find_bucket(bucket)).cors or self._default

    # --- the rules of a bucket

    async def put(self, request: Request) -> web.StreamResponse:
        rules = read_cors(await request.body(_MAX_DOCUMENT_BYTES))
        await self._buckets.set_cors(request.bucket, rules)
        return replies.empty(request)

    async def get(self, request: Request) -> web.StreamResponse:
        """Raises NoSuchCorsConfiguration; the development default is not the bucket's own."""
        rules = (await self._buckets.find_bucket(request.bucket)).cors
        if not rules:
            raise NoSuchCorsConfiguration()
        return replies.node(request, cors_document(rules))

    async def delete(self, request: Request) -> web.StreamResponse:
        await self._buckets.set_cors(request.bucket, ())
        return replies.empty(request, 204)


def _origin_headers(rule: CorsRule, origin: str) -> list[tuple[str, str]]:
    if "*" in rule.origins:
        return [("Access-Control-Allow-Origin", "*")]
    return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]

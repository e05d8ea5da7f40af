"""Answers: node trees as XML, or as JSON when that was asked for, error documents, and the headers every answer has.

Wire: Cloud Infinite documentation, "Common Response Headers" and "Error Codes"; COS documentation, the same. `Resource`
is in every error document, and both hosts' request ids are on every answer: the Python and Node SDKs need them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from cloudfinite.errors import RequestError
from cloudfinite.web.request import HostKind, Query, Request
from cloudfinite.wire.nodes import Node, to_json, to_xml

XML = "application/xml"  # Exactly: the Python SDK parses no answer with a charset behind it.
JSON = "application/json"

_MAX_MESSAGE_CHARS = 1_000  # A message names the value that was wrong, and a value may be a megabyte.

Headers = Iterable[tuple[str, str]]


def wants_json(headers: CIMultiDictProxy[str], query: Query) -> bool:
    """Whether JSON was asked for: by Accept, without XML beside it, or by `responseFormat=json`.

    Wire: our choice – the vendor documents no JSON answer; never chosen by default, since SDKs cannot read its errors.
    """
    accept = headers.get("Accept", "").lower()
    if JSON in accept and "xml" not in accept:
        return True
    return bool(query.pairs) and query.get("responseFormat").lower() == "json"


def node(request: Request, root: Node, status: int = 200, headers: Headers = ()) -> web.Response:
    """Answer with a document: XML, or `{"<root>": {…}}`."""
    if wants_json(request.headers, request.query):
        return _with_body(to_json(root), JSON, status, headers)
    return _with_body(to_xml(root), XML, status, headers)


def data(_request: Request, body: bytes, content_type: str, status: int = 200, headers: Headers = ()) -> web.Response:
    """Answer with bytes."""
    return _with_body(body, content_type, status, headers)


def text(
    _request: Request, body: str, content_type: str = "text/plain", status: int = 200, headers: Headers = ()
) -> web.Response:
    """Answer with text for people, as UTF-8."""
    return _with_body(body.encode("utf-8", "replace"), f"{content_type}; charset=utf-8", status, headers)


def empty(_request: Request, status: int = 200, headers: Headers = ()) -> web.Response:
    """Answer without a body."""
    return web.Response(status=status, headers=CIMultiDict(headers))


def see_other(request: Request, location: str, headers: Headers = ()) -> web.Response:
    """Send the browser to another of our own pages."""
    return empty(request, 303, [("Location", location), *headers])


def _with_body(body: bytes, content_type: str, status: int, headers: Headers) -> web.Response:
    answer = web.Response(body=body, status=status, headers=CIMultiDict(headers))
    answer.headers["Content-Type"] = content_type
    return answer


def error(error: RequestError, *, request_id: str, resource: str, as_json: bool = False) -> web.Response:
    """The error document. `resource` stands in when the error names none."""
    root = Node(
        "Error",
        (
            Node("Code", error.code),
            Node("Message", error.message[:_MAX_MESSAGE_CHARS] or error.code),
            Node("Resource", error.resource or resource or "/"),
            Node("RequestId", request_id),
            Node("TraceId", trace_id(request_id)),
        ),
    )
    if as_json:
        return _with_body(to_json(_json_error(root), wrapped=False), JSON, error.status, error.headers)
    return _with_body(to_xml(root), XML, error.status, error.headers)


def _json_error(root: Node) -> Node:
    # Wire: measured – Python wants `code` at the top, Node `Error.Code`, Go and Java `Message` at the top.
    children = root.value if isinstance(root.value, tuple) else ()
    lower = tuple(Node(child.name.lower(), child.value) for child in children)
    message = tuple(child for child in children if child.name == "Message")
    return Node("", (root, *lower, *message))


def trace_id(request_id: str) -> str:
    """An error's trace id. It is made from the request id, so that one finds the other."""
    return b64encode(sha1(request_id.encode(), usedforsecurity=False).digest()).decode()


def dress(response: web.StreamResponse, *, request_id: str, kind: HostKind, is_ci: bool, is_page: bool = False) -> None:
    """Set what every answer carries; before it is prepared. is_page: one of our own pages, below `/-/`."""
    headers = response.headers
    headers["x-ci-request-id"] = request_id
    headers["x-cos-request-id"] = request_id
    if response.status >= 400:
        headers["x-ci-trace-id"] = headers["x-cos-trace-id"] = trace_id(request_id)
    headers["Server"] = "tencent-ci" if is_ci else "tencent-cos"
    if kind is HostKind.OWN:
        # Our pages live on this host too: an uploaded page must not run there as one of them.
        headers["X-Content-Type-Options"] = "nosniff"
        if not is_page:
            headers["Content-Security-Policy"] = "sandbox"


async def begin(request: Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send the head of an answer whose body the handler then writes itself, piece by piece."""
    dress(response, request_id=request.id, kind=request.kind, is_ci=request.is_ci, is_page=request.is_page)
    await response.prepare(request.http)
    return response

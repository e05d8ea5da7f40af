"""Uploads by an HTML form: fields first, then the file, which is stored while it arrives.

Wire: COS documentation, "POST Object"; cos-wx-sdk-v5 lib/request.js (a field `Signature` in place of a policy).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from aiohttp import BodyPartReader, web
from multidict import CIMultiDict

from cloudfinite.domain.access import Action
from cloudfinite.domain.events import Cause, Creation
from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import (
    AccessDenied,
    EntityTooLarge,
    EntityTooSmall,
    IncompleteBody,
    InvalidArgument,
    MalformedPost,
    RequestTimeout,
)
from cloudfinite.ports import Clock
from cloudfinite.service.object_files import Body
from cloudfinite.service.objects import ObjectService
from cloudfinite.web import replies
from cloudfinite.web.access import Keys, find_token
from cloudfinite.web.object_headers import read_md5, stored_headers
from cloudfinite.web.objects import upload_headers
from cloudfinite.web.request import Request
from cloudfinite.wire import storage
from cloudfinite.wire.post_policy import verify_form
from cloudfinite.wire.signature import COS_REFUSALS, SignedRequest, verify

_MAX_FIELDS = 100
_MAX_FIELD_BYTES = 64 << 10  # The policy is the longest of them.
_MAX_FIELDS_BYTES = 256 << 10
_CHUNK_BYTES = 256 << 10

Bounds = tuple[int, int] | None


class FormHandlers:
    """`POST /` of a bucket's host with `multipart/form-data`. The form carries its own signature."""

    def __init__(self, objects: ObjectService, keys: Keys, clock: Clock) -> None:
        self._objects = objects
        self._keys = keys
        self._clock = clock

    async def post(self, request: Request) -> web.StreamResponse:
        fields, file = await _read_fields(request)
        key = fields.get("key", "").replace("${filename}", file.filename or "")
        secret_id, token, bounds = self._verify(request, fields, key)
        request = replace(request, secret_id=secret_id, grant=self._keys.grant_of(secret_id, token))
        request.check(Action.POST_OBJECT, key)
        body = Body(_file_chunks(file, bounds), md5=read_md5(fields))
        item = await self._objects.put_object(
            request.bucket, key, body, stored_headers(fields, key), Cause(Creation.POST, request.id)
        )
        return _answer(request, fields, item)

    def _verify(self, request: Request, fields: CIMultiDict[str], key: str) -> tuple[str, str, Bounds]:
        """Who signed, with which token, and the file's bounds in the form's policy.

        Raises what `verify` and `verify_form` raise.
        """
        now = self._clock()
        token = find_token(fields, request.query) or find_token(request.headers, request.query)

        def find_secret(secret_id: str) -> str | None:
            return self._keys.secret_of(secret_id, token)

        if "policy" in fields:
            plain = {name.lower(): value for name, value in fields.items()}
            policy = verify_form(plain, find_secret, now)
            policy.check(plain | {"key": key, "bucket": request.bucket}, now)
            return plain["q-ak"], token, policy.size_bytes
        authorization = fields.get("Signature", "") or request.headers.get("Authorization", "")
        signed = SignedRequest("POST", request.host, "/", "/", request.query.pairs, request.headers)
        return verify(signed, authorization, find_secret, int(now.timestamp()), COS_REFUSALS), token, None


async def _read_fields(request: Request) -> tuple[CIMultiDict[str], BodyPartReader]:
    """The fields before the file, and the file, unread. Raises MalformedPost, InvalidArgument."""
    fields: CIMultiDict[str] = CIMultiDict()
    size_bytes = 0
    try:
        form = await request.http.multipart()
        while (part := await form.next()) is not None:
            if not isinstance(part, BodyPartReader) or not part.name:
                raise MalformedPost("each part of the form needs a name")
            if part.name.lower() == "file":
                return fields, part
            value = bytearray()
            while chunk := await part.read_chunk(_MAX_FIELD_BYTES):
                value += chunk
                size_bytes += len(chunk)
                if len(value) > _MAX_FIELD_BYTES or size_bytes > _MAX_FIELDS_BYTES:
                    raise MalformedPost(f"the fields before the file take more than {_MAX_FIELDS_BYTES} bytes")
            if part.name in fields or len(fields) >= _MAX_FIELDS:
                raise MalformedPost(f"the field {part.name!r} is there twice, or one of more than {_MAX_FIELDS}")
            fields[part.name] = _field_text(part.name, bytes(value))
    except (ValueError, AssertionError, web.RequestPayloadError) as exc:  # aiohttp's words for what is no form
        raise MalformedPost(f"the body is no multipart/form-data: {exc}") from exc
    raise MalformedPost("the form has no file; it must be the last field, and its name file")


def _field_text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"the field {name} is not UTF-8") from exc
    # They become headers of answers.
    if name.lower() != "key" and any(character < " " or character == "\x7f" for character in text):
        raise InvalidArgument(f"the field {name} holds control characters")
    return text


async def _file_chunks(file: BodyPartReader, bounds: Bounds) -> AsyncIterator[bytes]:
    least, most = bounds or (0, None)
    size_bytes = 0
    try:
        while chunk := await file.read_chunk(_CHUNK_BYTES):
            size_bytes += len(chunk)
            if most is not None and size_bytes > most:
                raise EntityTooLarge(f"the policy allows at most {most} bytes")
            yield bytes(chunk)
    except TimeoutError as exc:
        raise RequestTimeout("the body stopped arriving") from exc
    except (ConnectionError, ValueError, AssertionError, web.RequestPayloadError) as exc:
        raise IncompleteBody() from exc
    if not file.at_eof():
        raise IncompleteBody()
    if size_bytes < least:
        raise EntityTooSmall(f"the policy wants at least {least} bytes; the file has {size_bytes}")


def _answer(request: Request, fields: CIMultiDict[str], item: StoredObject) -> web.StreamResponse:
    headers = upload_headers(item)
    if redirect := fields.get("success_action_redirect"):
        return replies.see_other(request, _redirect(redirect, item), headers)
    location = f"http://{request.host}/{quote(item.key, safe='/')}"
    headers.append(("Location", location))
    status = fields.get("success_action_status")
    if status == "201":
        return replies.node(request, storage.form_posted(item, location), 201, headers)
    return replies.empty(request, 200 if status == "200" else 204, headers)


def _redirect(url: str, item: StoredObject) -> str:
    """The page that the form names, told which object it is. Raises AccessDenied for what is no web address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise AccessDenied("success_action_redirect must be an http or https address")
    told = [("bucket", item.bucket), ("key", item.key), ("etag", item.etag)]
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query, keep_blank_values=True), *told])))

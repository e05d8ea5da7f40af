"""The policy of form uploads: the documented signature, and what each condition refuses."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloudfinite.errors import AccessDenied, InvalidAccessKeyId, InvalidArgument, RequestError, SignatureDoesNotMatch
from cloudfinite.wire.post_policy import read_policy, sign_policy, verify_form

NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
KEYS = {"id": "secret"}.get

# Wire: COS documentation, "POST Object", "Signature protection use cases": all values as printed there.
DOCUMENTED = """{
    "expiration": "2019-08-30T09:38:12.414Z",
    "conditions": [
        { "acl": "default" },
        { "bucket": "examplebucket-1250000000" },
        [ "starts-with", "$key", "folder/subfolder/" ],
        [ "starts-with", "$Content-Type", "image/" ],
        [ "starts-with", "$success_action_redirect", "https://my.website/" ],
        [ "eq", "$x-cos-server-side-encryption", "AES256" ],
        { "q-sign-algorithm": "sha1" },
        { "q-ak": "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q" },
        { "q-sign-time": "1567150692;1567157892" }
    ]
}"""


def text_of(*conditions: Any, expiration: str = "2026-01-05T03:00:00Z") -> bytes:
    return json.dumps({"expiration": expiration, "conditions": conditions}).encode()


def form(text: bytes, **changed: str) -> dict[str, str]:
    start = int(NOW.timestamp())
    period = changed.get("q-key-time", f"{start - 10};{start + 60}")
    signature = sign_policy(text, "secret", period)
    fields = {"policy": base64.b64encode(text).decode(), "q-ak": "id", "q-key-time": period, "q-signature": signature}
    return fields | {"q-sign-algorithm": "sha1"} | changed


def test_signature_is_the_documented_one() -> None:
    secret, period = "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz", "1567150692;1567157892"
    assert sign_policy(DOCUMENTED.encode(), secret, period) == "7758dc9a832e9d301dca704cacbf9d9f8172fdef"
    policy = read_policy(DOCUMENTED.encode())
    assert ("key", "folder/subfolder/") in policy.prefixes
    assert ("x-cos-server-side-encryption", "AES256") in policy.exact


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"q-signature": "0" * 40}, SignatureDoesNotMatch),
        ({"q-ak": "nobody"}, InvalidAccessKeyId),
        ({"q-key-time": "1;2"}, AccessDenied),
        ({"q-key-time": "now"}, InvalidArgument),
        ({"q-sign-algorithm": "md5"}, InvalidArgument),
        ({"policy": "é"}, InvalidArgument),
        ({"policy": base64.b64encode(text_of({"key": "other"})).decode()}, SignatureDoesNotMatch),
    ],
)
def test_form_that_is_not_signed_so_is_refused(changed: dict[str, str], error: type[RequestError]) -> None:
    assert verify_form(form(text_of()), KEYS, NOW).exact == ()
    with pytest.raises(error):
        verify_form(form(text_of(), **changed), KEYS, NOW)


@pytest.mark.parametrize(
    ("condition", "fields"),
    [
        ({"bucket": "b-1"}, {"bucket": "b-2"}),
        (["eq", "$key", "a"], {"key": "ab"}),
        (["starts-with", "$Content-Type", "image/"], {"content-type": "text/plain"}),
        (["starts-with", "$key", "in/"], {}),
        ({"q-sign-time": "1;2"}, {"q-key-time": "1;3"}),
        ({"success_action_status": 200}, {"success_action_status": "201"}),
    ],
)
def test_condition_that_does_not_hold_is_named(condition: Any, fields: dict[str, str]) -> None:
    with pytest.raises(AccessDenied, match="the policy wants"):
        read_policy(text_of(condition)).check(fields, NOW)


def test_conditions_that_hold_let_the_form_in() -> None:
    policy = read_policy(text_of({"bucket": "b-1"}, ["starts-with", "$key", ""], ["content-length-range", 1, 9]))
    policy.check({"bucket": "b-1", "key": "any"}, NOW)
    assert policy.size_bytes == (1, 9)


def test_policy_ends_with_its_expiration() -> None:
    policy = read_policy(text_of(expiration="2026-01-05T02:00:00.000Z"))
    policy.check({}, NOW - timedelta(seconds=1))
    with pytest.raises(AccessDenied, match="expired"):
        policy.check({}, NOW)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"expiration": 1, "conditions": []}', text_of("x"), text_of(["like", "$key", "a"]),
     text_of(["eq", "key", "a"]), text_of(["content-length-range", "1", "2"]), text_of({"key": ["a"]}),
     text_of(*[{"a": "b"}] * 101), b"[" * 100_000],
)  # fmt: skip
def test_policy_that_cannot_be_read_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_policy(text)

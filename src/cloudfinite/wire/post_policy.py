"""The policy of a form upload: what its signature covers, and what it lets the form say.

Wire: COS documentation, "POST Object" (signature protection, policy conditions); Amazon S3 documentation, "POST Policy"
for what that page leaves open.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudfinite.errors import (
    AccessDenied,
    InvalidAccessKeyId,
    InvalidArgument,
    SignatureDoesNotMatch,
)
from cloudfinite.wire.signature import derive_sign_key

_MAX_CONDITIONS = 100
# Wire: the form calls this field of the policy otherwise.
_FIELD_OF = {"q-sign-time": "q-key-time"}


@dataclass(frozen=True, slots=True)
class Policy:
    """exact, prefixes: what fields must be, or begin with. size_bytes: the bounds of the file."""

    expires_at: datetime
    exact: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()
    size_bytes: tuple[int, int] | None = None

    def check(self, fields: Mapping[str, str], now: datetime) -> None:
        """Raises AccessDenied naming the condition. `fields` have lower-case names, and `bucket` among them."""
        if now >= self.expires_at:
            raise AccessDenied(f"the policy expired at {self.expires_at:%Y-%m-%dT%H:%M:%SZ}")
        for name, value in self.exact:
            if fields.get(_FIELD_OF.get(name, name), "") != value:
                raise AccessDenied(f"the policy wants the field {name} to be {value!r}")
        for name, value in self.prefixes:
            if not fields.get(name, "").startswith(value):
                raise AccessDenied(f"the policy wants the field {name} to begin with {value!r}")


def verify_form(fields: Mapping[str, str], find_secret: Callable[[str], str | None], now: datetime) -> Policy:
    """The policy of a form that a known key signed.

    Raises AccessDenied (expired), InvalidAccessKeyId, SignatureDoesNotMatch, InvalidArgument (not readable).
    """
    if fields.get("q-sign-algorithm", "sha1") != "sha1":
        raise InvalidArgument("q-sign-algorithm must be sha1")
    period = fields.get("q-key-time", "")
    start, _, end = period.partition(";")
    if not all(part.isascii() and part.isdigit() and len(part) <= 12 for part in (start, end)):
        raise InvalidArgument(f"q-key-time is {period[:60]!r}; it must be two Unix times with a ; between them")
    secret = find_secret(fields.get("q-ak", ""))
    if secret is None:
        raise InvalidAccessKeyId()
    try:
        text = base64.b64decode(fields.get("policy", ""), validate=True)
    except ValueError as exc:  # also what is not ASCII
        raise InvalidArgument("policy is not base64") from exc
    signature = sign_policy(text, secret, period)
    if not hmac.compare_digest(signature.encode(), fields.get("q-signature", "").encode()):
        raise SignatureDoesNotMatch()
    if not int(start) <= now.timestamp() < int(end):
        raise AccessDenied("the form's signature has expired")
    return read_policy(text)


def sign_policy(text: bytes, secret_key: str, key_time: str) -> str:
    """The `q-signature` of a policy."""
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return hmac.digest(derive_sign_key(secret_key, key_time), digest.encode(), "sha1").hex()


def read_policy(text: bytes) -> Policy:
    """Raises InvalidArgument saying what cannot be read."""
    try:
        data = json.loads(text)
        expires_at = datetime.fromisoformat(data["expiration"])
        conditions = list(data["conditions"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidArgument("the policy is not JSON with an expiration and conditions") from exc
    if len(conditions) > _MAX_CONDITIONS:
        raise InvalidArgument(f"the policy has {len(conditions)} conditions; at most {_MAX_CONDITIONS} are allowed")
    exact: list[tuple[str, str]] = []
    prefixes: list[tuple[str, str]] = []
    size_bytes = None
    for condition in conditions:
        match condition:
            case dict():
                exact += [(name.lower(), _text(value)) for name, value in condition.items()]
            case ["content-length-range", int() as least, int() as most]:
                size_bytes = least, most
            case [str() as how, str() as name, value] if how.lower() == "eq" and name.startswith("$"):
                exact.append((name[1:].lower(), _text(value)))
            case [str() as how, str() as name, value] if how.lower() == "starts-with" and name.startswith("$"):
                prefixes.append((name[1:].lower(), _text(value)))
            case _:
                # What is not understood cannot be kept to.
                raise InvalidArgument(f"the policy has a condition that is none: {json.dumps(condition)[:100]}")
    aware = expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)
    return Policy(aware, tuple(exact), tuple(prefixes), size_bytes)


def _text(value: Any) -> str:
    if not isinstance(value, str | int):
        raise InvalidArgument(f"the policy has a condition with {json.dumps(value)[:100]}; write a text")
    return str(value)

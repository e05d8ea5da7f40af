"""Temporary credentials: a key pair derived from another one, for a time and for less.

Nothing is stored. The token says whose they are, until when and for what; the secret key is made from the parent's
secret and the token. So whoever changes a byte of the token lacks its secret, and credentials end with their parent,
or with its secret.

Wire: our choice – the vendor's tokens are opaque. SDKs send them as `x-cos-security-token` or `x-ci-security-token`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cloudfinite.domain.access import Policy, policy_data, read_policy
from cloudfinite.errors import InvalidArgument

MAX_TOKEN_CHARS = 4_096  # Clients and proxies stop at header lines of 8 KB.


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client is given."""

    secret_id: str
    secret_key: str
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: whether it is true shows in the signature alone. `secret_id` is the one that goes with it."""

    secret_id: str
    parent_id: str
    policy: Policy
    expires_at: datetime


def issue(parent_id: str, parent_secret: str, policy: Policy, expires_at: datetime) -> Credentials:
    """Raises InvalidArgument when the policy is too long for a token."""
    claims = {
        "key": parent_id,
        "policy": policy_data(policy),
        "until": int(expires_at.timestamp()),
        "nonce": secrets.token_hex(8),
    }
    text = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    token = base64.urlsafe_b64encode(text).decode().rstrip("=")
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidArgument(f"the policy makes a token of {len(token)} characters; at most {MAX_TOKEN_CHARS} fit")
    return Credentials(_secret_id(token), derive_secret(parent_secret, token), token, expires_at)


def derive_secret(parent_secret: str, token: str) -> str:
    """The secret key that goes with the token."""
    return hmac.new(parent_secret.encode(), b"cloudfinite temporary 1\0" + token.encode(), hashlib.sha256).hexdigest()


def _secret_id(token: str) -> str:
    return "AKIDtmp" + hashlib.sha256(token.encode()).hexdigest()[:32]


@lru_cache(maxsize=1024)
def read_token(token: str) -> Claims | None:
    """None for what is no token of this form."""
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        return None
    try:
        data = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        parent_id, until = data["key"], data["until"]
        if not isinstance(parent_id, str) or not isinstance(until, int):
            return None
        expires_at = datetime.fromtimestamp(until, UTC)
        return Claims(_secret_id(token), parent_id, read_policy(data["policy"]), expires_at)
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None

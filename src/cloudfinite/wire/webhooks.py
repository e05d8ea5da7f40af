"""Standard Webhooks signatures: what a receiver checks to know that a callback is ours and unchanged.

Wire: the Standard Webhooks specification, "Signature scheme" (symmetric, v1); the vendor's callbacks carry none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
ATTEMPT_HEADER = "cloudfinite-attempt"
SEQUENCE_HEADER = "cloudfinite-sequence"

_PREFIX = "whsec_"
_KEY_BYTES = 32
_MIN_KEY_BYTES = 16
_PIECE = 2_047  # signed at once: from one byte more on hashlib gives up the GIL, and waits for it longer than it hashes


def new_secret() -> str:
    """A fresh secret: `whsec_` and the base64 text of 32 random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def read_secret(secret: str) -> bytes:
    """The key in a secret's text. Raises ValueError saying what would be right."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as exc:
        raise ValueError("a webhook secret is whsec_ and standard base64 text") from exc
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError(f"a webhook secret holds at least {_MIN_KEY_BYTES} bytes; this one has {len(key)}")
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header `webhook-signature`: one `v1,…` per key, so that a receiver may know any of them."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return " ".join(["v1," + base64.b64encode(_mac(key, signed)).decode() for key in keys])


def _mac(key: bytes, signed: bytes) -> bytes:
    mac = hmac.new(key, signed[:_PIECE], hashlib.sha256)
    for at in range(_PIECE, len(signed), _PIECE):
        mac.update(signed[at : at + _PIECE])
    return mac.digest()

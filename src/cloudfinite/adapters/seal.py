"""Seals small secrets with AES-256-GCM under a key derived from the installation's secret text."""

from __future__ import annotations

import os
from hashlib import sha256

from cloudfinite.errors import SetupError

_NONCE_BYTES = 12


class AesSeal:
    """`service.access.Seal` by the `cryptography` package, imported when first used."""

    def __init__(self, secret: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(sha256(b"cloudfinite seal 1\0" + secret.encode()).digest())

    def close(self, secret: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), None)

    def open(self, sealed: bytes) -> str:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
        except InvalidTag as exc:
            raise SetupError(
                "the access keys in the database were sealed with another key",
                "give the installation's encryption_key, or its secret.key file, to this process",
            ) from exc

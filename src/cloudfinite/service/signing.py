"""Which secrets sign a callback: the target's own, newest first, else the installation's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import Target, TargetSecret
from cloudfinite.errors import InvalidArgument, SetupError
from cloudfinite.service.access import Seal
from cloudfinite.wire.webhooks import new_secret, read_secret, sign


class Signer:
    """Signs with every secret that is valid, so that a receiver may change over at its own time.

    `secrets` are those of the installation, newest first; several sign during a rotation. Raises SetupError when one
    cannot be read.
    """

    def __init__(self, secrets: Sequence[str], seal: Seal) -> None:
        self._seal = seal
        self._opened: dict[bytes, bytes] = {}
        try:
            self._default = [read_secret(secret) for secret in secrets]
        except ValueError as exc:
            raise SetupError(f"callback_secret cannot be used: {exc}", "write whsec_ and base64 text") from exc

    def signature(self, target: Target, message_id: str, at: datetime, body: bytes) -> str:
        keys = [self._open(secret.sealed) for secret in target.secrets if secret.until is None or secret.until > at]
        return sign(keys or self._default, message_id, int(at.timestamp()), body)

    def _open(self, sealed: bytes) -> bytes:
        if sealed not in self._opened:
            if len(self._opened) >= 10_000:
                self._opened.clear()
            self._opened[sealed] = read_secret(self._seal.open(sealed))
        return self._opened[sealed]

    def rotated(
        self, old: Sequence[TargetSecret], secret: str, at: datetime, overlap: timedelta
    ) -> tuple[TargetSecret, ...]:
        """The secrets after `secret` (or a new one) becomes the first; the old ones sign until the overlap ends."""
        try:
            read_secret(secret)
        except ValueError as exc:
            raise InvalidArgument(str(exc)) from exc
        until = at + overlap
        kept = [one for one in old if one.until is None or one.until > at]
        kept = [replace(one, until=until if one.until is None else min(one.until, until)) for one in kept]
        return TargetSecret(self._seal.close(secret)), *kept

    @staticmethod
    def new_secret() -> str:
        return new_secret()

"""Which secrets sign a callback: the target's own, else its bucket's, else the installation's; newest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import SigningSecret, Target
from cloudfinite.errors import InvalidArgument, SetupError
from cloudfinite.service.access import Seal
from cloudfinite.wire.webhooks import new_secret, read_secret, sign

_OPENED = 10_000  # opened secrets in memory


class Signer:
    """Signs with every secret that is valid, so that a receiver may change over at its own time.

    `secrets` are those of the installation, newest first; several sign during a rotation. Raises SetupError when one
    cannot be read.
    """

    def __init__(self, secrets: Sequence[str], seal: Seal) -> None:
        self._seal = seal
        self._opened: dict[bytes, bytes] = {}
        self._buckets: Mapping[str, Sequence[SigningSecret]] = {}
        try:
            self._installation = [read_secret(secret) for secret in secrets]
        except ValueError as exc:
            raise SetupError(f"callback_secret cannot be used: {exc}", "write whsec_ and base64 text") from exc

    def know_buckets(self, secrets: Mapping[str, Sequence[SigningSecret]]) -> None:
        """Sign for these buckets with secrets of their own from now on."""
        self._buckets = secrets

    def signature(self, target: Target, bucket: str, message_id: str, at: datetime, body: bytes) -> str:
        return sign(self._keys(target, bucket, at), message_id, int(at.timestamp()), body)

    def _keys(self, target: Target, bucket: str, at: datetime) -> list[bytes]:
        if not target.secrets and bucket not in self._buckets:
            return self._installation

        def of_bucket() -> list[bytes]:
            return self._valid(self._buckets.get(bucket, ()), at, lambda: self._installation)

        return self._valid(target.secrets, at, of_bucket)

    def _valid(
        self, secrets: Sequence[SigningSecret], at: datetime, inherited: Callable[[], list[bytes]]
    ) -> list[bytes]:
        keys: list[bytes] = []
        for secret in secrets:
            if secret.is_valid(at):
                keys += [self._open(secret.sealed)] if secret.sealed else inherited()
        return list(dict.fromkeys(keys)) or inherited()

    def _open(self, sealed: bytes) -> bytes:
        if sealed not in self._opened:
            if len(self._opened) >= _OPENED:
                self._opened.clear()
            self._opened[sealed] = read_secret(self._seal.open(sealed))
        return self._opened[sealed]

    def rotated(
        self, old: Sequence[SigningSecret], secret: str, at: datetime, overlap: timedelta
    ) -> tuple[SigningSecret, ...]:
        """The secrets after `secret` becomes the first, or none is left (""); what signed before signs for the overlap.

        What signed is the inherited secret where there was none of its own: a receiver that knows that one must not
        fail because the first own one came.
        """
        if secret:
            try:
                read_secret(secret)
            except ValueError as exc:
                raise InvalidArgument(str(exc)) from exc
        until = at + overlap
        before = [one for one in old if one.is_valid(at)] or [SigningSecret()]
        kept = [replace(one, until=until if one.until is None else min(one.until, until)) for one in before]
        return SigningSecret(self._seal.close(secret) if secret else b""), *kept

    @staticmethod
    def new_secret() -> str:
        return new_secret()

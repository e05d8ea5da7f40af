"""Access keys: who may sign requests. Secrets lie sealed in the database, with a key that is not in it."""

from __future__ import annotations

import secrets
from typing import Protocol

from cloudfinite.errors import AccessKeyExists, AccessKeyNotFound, InvalidArgument
from cloudfinite.ports import Store


class Seal(Protocol):
    """Encrypts small secrets; `open` raises ValueError for what another key sealed."""

    def close(self, secret: str) -> bytes: ...
    def open(self, sealed: bytes) -> str: ...


class Keyring:
    """The key pairs, in memory for the signature check of each request."""

    def __init__(self, store: Store, seal: Seal) -> None:
        self._store = store
        self._seal = seal
        self._secrets: dict[str, str] = {}

    async def load(self) -> None:
        rows = await self._store.read(lambda tx: tx.keys.all())
        self._secrets = {secret_id: self._seal.open(sealed) for secret_id, sealed in rows}

    async def add(self, secret_id: str, secret_key: str) -> None:
        """Add a pair, or give a known id another secret."""
        if self._secrets.get(secret_id) == secret_key:
            return
        sealed = self._seal.close(secret_key)
        await self._store.run(lambda tx: tx.keys.put(secret_id, sealed, tx.now))
        self._secrets[secret_id] = secret_key

    async def create(self, secret_id: str = "", secret_key: str = "") -> tuple[str, str]:
        """Add a pair; what is not given is made up. Raises AccessKeyExists."""
        secret_id = secret_id or "AKID" + secrets.token_hex(16)
        if secret_id in self._secrets:
            raise AccessKeyExists(f"the access key {secret_id} exists already; remove it first")
        pair = secret_id, secret_key or secrets.token_hex(16)
        await self.add(*pair)
        return pair

    async def remove(self, secret_id: str) -> None:
        """Raises AccessKeyNotFound; InvalidArgument for the last one, without which nobody could sign."""
        if set(self._secrets) == {secret_id}:
            raise InvalidArgument(f"{secret_id} is the only access key; add another one first")
        if not await self._store.run(lambda tx: tx.keys.remove(secret_id)):
            raise AccessKeyNotFound(f"the access key {secret_id} does not exist")
        self._secrets.pop(secret_id, None)

    def ids(self) -> list[str]:
        """Oldest first."""
        return list(self._secrets)

    def secret_of(self, secret_id: str) -> str | None:
        return self._secrets.get(secret_id)

    def first(self) -> tuple[str, str] | None:
        return next(iter(self._secrets.items()), None)

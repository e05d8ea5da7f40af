"""Access keys: who may sign requests, and what for. Secrets lie sealed in the database, with a key that is not in it.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from cloudfinite.domain.access import EVERYTHING, NOTHING, AccessKey, Action, Grant, Policy, Rule
from cloudfinite.domain.objects import Acl
from cloudfinite.errors import AccessKeyExists, AccessKeyNotFound, ExpiredToken, InvalidArgument
from cloudfinite.ports import Clock, Store, Transaction
from cloudfinite.service.temporary import Claims, Credentials, derive_secret, issue, read_token

_READING = (Action.GET_OBJECT.wire, Action.HEAD_OBJECT.wire)


class Seal(Protocol):
    """Encrypts small secrets; `open` raises SetupError for what another key sealed."""

    def close(self, secret: str) -> bytes: ...
    def open(self, sealed: bytes) -> str: ...


@dataclass(frozen=True, slots=True)
class _Pair:
    key: AccessKey
    secret: str


class Keyring:
    """The key pairs, in memory for the signature check of each request; and what their owners may do.

    A `token` makes a secret id one of temporary credentials; without it, it is a pair of our own.
    """

    def __init__(self, store: Store, seal: Seal, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._pairs: dict[str, _Pair] = {}
        self._changing = asyncio.Lock()  # An older reading of the table must not overtake a change.

    # --- the pairs -------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read them anew: other processes change them too."""
        async with self._changing:
            await self._load()

    async def _load(self) -> None:
        rows = await self._store.read(lambda tx: tx.keys.all())
        self._pairs = {key.secret_id: _Pair(key, self._seal.open(sealed)) for key, sealed in rows}

    async def ensure(self, secret_id: str, secret_key: str) -> None:
        """Add a pair that may do everything, or give a known one another secret; what it may do stays."""
        if (pair := self._pairs.get(secret_id)) is None or pair.secret != secret_key:
            async with self._changing:
                await self._store.run(_put, secret_id, self._seal.close(secret_key), EVERYTHING)
                await self._load()

    async def create(self, secret_id: str = "", secret_key: str = "", policy: Policy = EVERYTHING) -> tuple[str, str]:
        """Add a pair; what is not given is made up. Raises AccessKeyExists."""
        secret_id = secret_id or "AKID" + secrets.token_hex(16)
        secret_key = secret_key or secrets.token_hex(16)
        async with self._changing:
            await self._store.run(_create, secret_id, self._seal.close(secret_key), policy)
            await self._load()
        return secret_id, secret_key

    async def change(
        self, secret_id: str, *, policy: Policy | None = None, is_enabled: bool | None = None
    ) -> AccessKey:
        """Change what is given, for temporary credentials of the key too. Raises AccessKeyNotFound."""
        async with self._changing:
            key = await self._store.run(_change, secret_id, policy, is_enabled)
            await self._load()
        return key

    async def remove(self, secret_id: str) -> None:
        """Raises AccessKeyNotFound; InvalidArgument for the last one, without which nobody could sign."""
        if set(self._pairs) == {secret_id}:
            raise InvalidArgument(f"{secret_id} is the only access key; add another one first")
        async with self._changing:
            if not await self._store.run(lambda tx: tx.keys.remove(secret_id)):
                raise _unknown(secret_id)
            await self._load()

    def all(self) -> list[AccessKey]:
        """Oldest first."""
        return [pair.key for pair in self._pairs.values()]

    def find(self, secret_id: str) -> AccessKey:
        """Raises AccessKeyNotFound."""
        if (pair := self._pairs.get(secret_id)) is None:
            raise _unknown(secret_id)
        return pair.key

    def first(self) -> tuple[str, str] | None:
        """The oldest pair that may sign."""
        return next(((one.key.secret_id, one.secret) for one in self._pairs.values() if one.key.is_enabled), None)

    def issue(self, secret_id: str, policy: Policy, lifetime: timedelta) -> Credentials:
        """Temporary credentials of a key, for what both policies allow. Raises AccessKeyNotFound, InvalidArgument."""
        if not self.find(secret_id).is_enabled:
            raise InvalidArgument(f"the access key {secret_id} is disabled")
        return issue(secret_id, self._pairs[secret_id].secret, policy, self._clock() + lifetime)

    # --- for each request ------------------------------------------------------------------------------------------

    def secret_of(self, secret_id: str, token: str = "") -> str | None:
        """The secret key that signs for the id; None when nothing does."""
        pair, claims = self._look_up(secret_id, token)
        if pair is None:
            return None
        return derive_secret(pair.secret, token) if claims else pair.secret

    def grant_of(self, secret_id: str, token: str = "") -> Grant:
        """What the id may do; ask after its signature was verified. Raises ExpiredToken."""
        pair, claims = self._look_up(secret_id, token)
        if pair is None:
            return NOTHING
        if claims is None:
            return Grant((pair.key.policy,))
        if self._clock() >= claims.expires_at:
            raise ExpiredToken(f"the security token expired at {claims.expires_at:%Y-%m-%dT%H:%M:%SZ}")
        return Grant((pair.key.policy, claims.policy))

    def _look_up(self, secret_id: str, token: str) -> tuple[_Pair | None, Claims | None]:
        claims = read_token(token) if token else None
        if token and (claims is None or claims.secret_id != secret_id):
            return None, None
        pair = self._pairs.get(claims.parent_id if claims else secret_id)
        return (pair if pair and pair.key.is_enabled else None), claims

    async def public_grant(self, bucket: str) -> Grant:
        """What anybody may do without a signature: read the objects of a public bucket, and nothing else."""
        found = await self._store.read(lambda tx: tx.buckets.get(bucket))
        if found is None or found.acl is not Acl.PUBLIC_READ:
            return NOTHING
        return Grant((Policy((Rule((bucket,), ("",), _READING),)),))


def _unknown(secret_id: str) -> AccessKeyNotFound:
    return AccessKeyNotFound(f"the access key {secret_id} does not exist")


# --- transactions --------------------------------------------------------------------------------------------------


def _put(tx: Transaction, secret_id: str, sealed: bytes, policy: Policy) -> None:
    known = tx.keys.get(secret_id)
    tx.keys.put(known or AccessKey(secret_id, policy, tx.now), sealed)


def _create(tx: Transaction, secret_id: str, sealed: bytes, policy: Policy) -> None:
    if tx.keys.get(secret_id) is not None:
        raise AccessKeyExists(f"the access key {secret_id} exists already; remove it first")
    tx.keys.put(AccessKey(secret_id, policy, tx.now), sealed)


def _change(tx: Transaction, secret_id: str, policy: Policy | None, is_enabled: bool | None) -> AccessKey:
    key = tx.keys.get(secret_id)
    if key is None:
        raise _unknown(secret_id)
    key = replace(
        key,
        policy=key.policy if policy is None else policy,
        is_enabled=key.is_enabled if is_enabled is None else is_enabled,
    )
    tx.keys.replace(key)
    return key

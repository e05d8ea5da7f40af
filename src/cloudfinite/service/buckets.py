"""Buckets: make, find, list and delete them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cloudfinite.domain.cors import CorsRule
from cloudfinite.domain.objects import Acl, Bucket, ListQuery
from cloudfinite.errors import AccessDenied, BucketAlreadyExists, InvalidBucketName, NoSuchBucket, SetupError
from cloudfinite.ports import Store, Transaction

# Wire: COS documentation, "Bucket Overview": `<name>-<number>`, at most 60 characters with the number.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?-[0-9]+", re.ASCII)
_MAX_NAME = 60
_SET_BY_STORE = datetime.fromtimestamp(0, UTC)


class BucketService:
    """Buckets; those of the settings are made at start with `ensure_bucket`.

    elsewhere: those that storages keep, so that only the settings can take them away. is_fixed: clients make none.
    """

    def __init__(self, store: Store, elsewhere: Collection[str] = (), *, is_fixed: bool = False) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self.is_fixed = is_fixed

    async def check_places(self) -> None:
        """Raises SetupError when objects in the data folder would fall out of sight, or be out of others' reach."""
        hidden = await self._store.read(_holding_objects, self._elsewhere)
        if hidden:
            raise SetupError(
                f"the bucket {hidden[0]} is to be kept in a storage, but has objects in the data folder",
                "copy them there and delete them here first, or give the storage a bucket of its own",
            )
        outside = sorted({bucket.name for bucket in await self.list_buckets()} - set(self._elsewhere))
        if self.is_fixed and outside:
            raise SetupError(
                f"the bucket {outside[0]} of this database is in no storage, so its objects need a shared folder",
                "name its storage in buckets, delete it, or set shared_objects = true",
            )

    async def ensure_bucket(self, name: str, region: str) -> None:
        """Make the bucket unless it is there. Raises InvalidBucketName."""
        await self._store.run(_ensure, _new(name, region))

    async def create_bucket(self, name: str, region: str, acl: Acl = Acl.PRIVATE) -> None:
        """Raises BucketAlreadyExists, InvalidBucketName, AccessDenied."""
        if self.is_fixed:
            raise AccessDenied("the buckets of this server are those of its settings")
        if not await self._store.run(_ensure, replace(_new(name, region), acl=acl)):
            raise BucketAlreadyExists(f"the bucket {name} exists already")

    async def find_bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        bucket = await self._store.read(_get, name)
        if bucket is None:
            raise NoSuchBucket(f"the bucket {name} does not exist")
        return bucket

    async def list_buckets(self) -> list[Bucket]:
        """All, by name."""
        return await self._store.read(_all)

    async def set_cors(self, name: str, rules: Sequence[CorsRule]) -> None:
        """Replace the bucket's own CORS rules. Raises NoSuchBucket."""
        await self._store.run(_change, name, lambda bucket: replace(bucket, cors=tuple(rules)))

    async def set_acl(self, name: str, acl: Acl) -> Bucket:
        """Say who may read the bucket's objects without a signature. Raises NoSuchBucket."""
        return await self._store.run(_change, name, lambda bucket: replace(bucket, acl=acl))

    async def delete_bucket(self, name: str) -> None:
        """Raises NoSuchBucket, BucketNotEmpty, AccessDenied. Its uploads in progress end with it."""
        if name in self._elsewhere:
            raise AccessDenied(f"the bucket {name} is kept in a storage; take it out of the server's settings instead")
        if not await self._store.run(_delete, name):
            raise NoSuchBucket(f"the bucket {name} does not exist")


def _new(name: str, region: str) -> Bucket:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise InvalidBucketName(
            f"the bucket name {name!r} is not lower-case letters, digits and hyphens with a number at its end, "
            f"like examplebucket-1250000000, at most {_MAX_NAME} characters"
        )
    return Bucket(name, region, _SET_BY_STORE)


def _ensure(tx: Transaction, bucket: Bucket) -> bool:
    return tx.buckets.ensure(replace(bucket, created_at=tx.now))


def _holding_objects(tx: Transaction, names: Collection[str]) -> list[str]:
    return [name for name in names if tx.objects.select(name, ListQuery(size=1)).objects]


def _get(tx: Transaction, name: str) -> Bucket | None:
    return tx.buckets.get(name)


def _all(tx: Transaction) -> list[Bucket]:
    return tx.buckets.all()


def _change(tx: Transaction, name: str, change: Callable[[Bucket], Bucket]) -> Bucket:
    bucket = tx.buckets.lock(name)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {name} does not exist")
    bucket = change(bucket)
    tx.buckets.replace(bucket)
    return bucket


def _delete(tx: Transaction, name: str) -> bool:
    return tx.buckets.delete(name)

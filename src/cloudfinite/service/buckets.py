"""Buckets: make, find, list and delete them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cloudfinite.domain.cors import CorsRule
from cloudfinite.domain.objects import Bucket
from cloudfinite.errors import BucketAlreadyExists, InvalidBucketName, NoSuchBucket
from cloudfinite.ports import Store, Transaction

# Wire: COS documentation, "Bucket Overview": `<name>-<number>`, at most 60 characters with the number.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?-[0-9]+", re.ASCII)
_MAX_NAME = 60
_SET_BY_STORE = datetime.fromtimestamp(0, UTC)


class BucketService:
    """Buckets; those of the settings are made at start with `ensure_bucket`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ensure_bucket(self, name: str, region: str) -> None:
        """Make the bucket unless it is there. Raises InvalidBucketName."""
        await self._store.run(_ensure, _new(name, region))

    async def create_bucket(self, name: str, region: str) -> None:
        """Raises BucketAlreadyExists, InvalidBucketName."""
        if not await self._store.run(_ensure, _new(name, region)):
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
        await self._store.run(_set_cors, name, tuple(rules))

    async def delete_bucket(self, name: str) -> None:
        """Raises NoSuchBucket, BucketNotEmpty. Its uploads in progress end with it."""
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


def _get(tx: Transaction, name: str) -> Bucket | None:
    return tx.buckets.get(name)


def _all(tx: Transaction) -> list[Bucket]:
    return tx.buckets.all()


def _set_cors(tx: Transaction, name: str, rules: tuple[CorsRule, ...]) -> None:
    bucket = tx.buckets.lock(name)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {name} does not exist")
    tx.buckets.replace(replace(bucket, cors=rules))


def _delete(tx: Transaction, name: str) -> bool:
    return tx.buckets.delete(name)

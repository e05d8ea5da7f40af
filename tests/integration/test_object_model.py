"""Random sequences of object calls against a dictionary: on both databases, and in an S3 storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.seaweed import Seaweed

from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.domain.events import ObjectEvent
from cloudfinite.domain.objects import ListQuery
from cloudfinite.errors import NoSuchCopySource, NoSuchKey, ObjectNotAppendable
from cloudfinite.ports import Storage, Store, Transaction
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.keepers import stream_bytes
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.uploads import UploadService

NUMBERS = count(1)
# Few letters, so that keys collide, are prefixes of each other, and look like paths.
KEYS = st.text(alphabet="a/.\\%中😀 ", min_size=1, max_size=4)
DATA = st.binary(max_size=20)
# What a storage built on folders takes for distinct keys: none is the folder of another.
PATHS = st.from_regex(r"[ab中]{1,2}|dir/[ab😀]{1,2}", fullmatch=True)


def steps_with(keys: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, ...]]]:
    step = st.one_of(
        st.tuples(st.just("put"), keys, DATA),
        st.tuples(st.just("append"), keys, DATA),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("copy"), keys, keys),
        st.tuples(st.just("upload"), keys, st.lists(DATA, min_size=1, max_size=3)),
        st.tuples(st.just("collect")),
    )
    return st.lists(step, max_size=12)


class World:
    """The services on one side, a dictionary on the other."""

    def __init__(self, store: Store, folder: Path, storages: Mapping[str, Storage] | None = None) -> None:
        self.folder = folder
        self._store = store
        self._storages = storages or {}
        self.local = LocalObjects(folder)
        files = ObjectFiles(store, self.local, self._storages)
        self.objects = ObjectService(files, retain_s=0)
        self.uploads = UploadService(files)
        self.buckets = BucketService(store)
        self.bucket = ""
        self.known: dict[str, bytes] = {}
        self.appendable: set[str] = set()
        self.creations = 0

    async def reset(self) -> None:
        for key in self.known:
            await self.objects.delete_object(self.bucket, key)
        self.bucket, self.known = next(iter(self._storages), f"model-{next(NUMBERS)}"), {}
        self.appendable: set[str] = set()
        self.creations = 0
        await self.buckets.ensure_bucket(self.bucket, "ap-chongqing")

    async def put(self, key: str, data: bytes) -> None:
        await self.objects.put_object(self.bucket, key, Body(chunks(data)), {})
        self._created(key, data)

    def _created(self, key: str, data: bytes, *, is_appendable: bool = False) -> None:
        self.known[key] = data
        self.creations += 1
        (self.appendable.add if is_appendable else self.appendable.discard)(key)

    async def append(self, key: str, data: bytes) -> None:
        old = self.known.get(key, b"")
        appending = self.objects.append_object(self.bucket, key, len(old), Body(chunks(data)), {})
        if self._storages or (key in self.known and key not in self.appendable):
            with pytest.raises(ObjectNotAppendable):
                await appending
            return
        await appending
        self._created(key, old + data, is_appendable=True)

    async def delete(self, key: str) -> None:
        await self.objects.delete_object(self.bucket, key)
        self.known.pop(key, None)
        self.appendable.discard(key)

    async def copy(self, source: str, target: str) -> None:
        copying = self.objects.copy_object((self.bucket, source), (self.bucket, target), None, lambda _: None)
        if source not in self.known:
            with pytest.raises(NoSuchCopySource):
                await copying
            return
        await copying
        self._created(target, self.known[source])

    async def upload(self, key: str, parts: list[bytes]) -> None:
        upload = await self.uploads.start_upload(self.bucket, key, {})
        done = [
            await self.uploads.put_part(self.bucket, key, upload.id, number, Body(chunks(data)))
            for number, data in enumerate(parts, 1)
        ]
        wanted = [(part.number, part.etag) for part in done]
        await self.uploads.complete_upload(self.bucket, key, upload.id, wanted)
        self._created(key, b"".join(parts))

    async def take_events(self) -> list[ObjectEvent]:
        """Those of this bucket, and all are done."""
        return [event for event in await self._store.run(_take_events) if event.bucket == self.bucket]

    async def collect(self) -> None:
        await self.objects.collect_garbage()

    async def read(self, key: str) -> bytes | None:
        try:
            found = await self.objects.locate_object(self.bucket, key)
        except NoSuchKey:
            return None
        return b"".join([chunk async for chunk in stream_bytes(found, 0, found.item.size_bytes)])


def _take_events(tx: Transaction) -> list[ObjectEvent]:
    events = tx.events.take(1000)
    tx.events.finish([event.id for event in events])
    return events


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def world(store: Store, tmp_path: Path) -> AsyncIterator[World]:
    world = World(store, tmp_path / "objects")
    yield world
    world.local.close()


@pytest.fixture
async def remote_world(sqlite_store: Store, seaweed: Seaweed, tmp_path: Path) -> AsyncIterator[World]:
    seaweed.make_bucket("model")
    storage = seaweed.storage("model-1", "model")
    world = World(sqlite_store, tmp_path / "objects", {"model-1": storage})
    yield world
    world.local.close()
    await storage.close()


@given(steps=steps_with(KEYS), strangers=st.lists(KEYS, max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_objects_behave_like_a_dictionary(
    world: World, steps: list[tuple[str, ...]], strangers: list[str]
) -> None:
    await check_steps(world, steps, strangers)


@given(steps=steps_with(PATHS), strangers=st.lists(PATHS, max_size=3))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_objects_in_a_storage_behave_like_a_dictionary(
    remote_world: World, steps: list[tuple[str, ...]], strangers: list[str]
) -> None:
    await check_steps(remote_world, steps, strangers)


async def check_steps(world: World, steps: list[tuple[str, ...]], strangers: list[str]) -> None:
    await world.reset()
    for name, *arguments in steps:
        await getattr(world, name)(*arguments)
    for key in [*world.known, *strangers]:
        assert await world.read(key) == world.known.get(key)
    page = await world.objects.list_objects(world.bucket, ListQuery())
    assert [item.key for item in page.objects] == sorted(world.known, key=str.encode)
    assert len(await world.take_events()) == world.creations


@given(keys=st.lists(KEYS, max_size=12), prefix=st.text("a/中", max_size=2), size=st.integers(1, 4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pages_with_prefix_and_delimiter_are_those_of_a_naive_list(
    world: World, keys: list[str], prefix: str, size: int
) -> None:
    await world.reset()
    for key in set(keys):
        await world.put(key, b"")
    expected = {
        prefix + head + slash
        for key in keys
        if key.startswith(prefix)
        for head, slash, _ in [key.removeprefix(prefix).partition("/")]
    }
    found: list[str] = []
    marker = ""
    while True:
        query = ListQuery(prefix=prefix, delimiter="/", marker=marker, size=size)
        page = await world.objects.list_objects(world.bucket, query)
        found += sorted([*(item.key for item in page.objects), *page.common_prefixes], key=str.encode)
        if not (marker := page.next_marker):
            break
    assert found == sorted(expected, key=str.encode)

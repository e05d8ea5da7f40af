"""What every store promises of buckets, objects and uploads; run on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from cloudfinite.domain.objects import Bucket, ListQuery, ObjectPage, Part, Piece, StoredObject, Upload
from cloudfinite.errors import BucketNotEmpty
from cloudfinite.ports import Store, Transaction

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
BUCKET = "examplebucket-1250000000"
ODD_KEYS = [
    "a//b",
    "/lead",
    "a/",
    "a",
    "a/b",
    "../x",
    "..\\x",
    "%2e%2e",
    "中文/图片.png",
    "😀",
    "\uffff",
    "x" * 850,
    " a ",
]


def item(key: str, file_id: str = "", bucket: str = BUCKET) -> StoredObject:
    name = file_id or f"file-{bucket}-{key}"
    return StoredObject(bucket, key, name, 3, f'"{name}"', (1 << 64) - 1, AT, {"Content-Type": "text/plain"})


def put_all(tx: Transaction, keys: list[str]) -> None:
    for key in keys:
        tx.objects.put(item(key))


def page(tx: Transaction, **wanted: object) -> ObjectPage:
    return tx.objects.select(BUCKET, ListQuery(**wanted))  # type: ignore[arg-type]  # keywords of ListQuery


def garbage_of(tx: Transaction) -> set[str]:
    return set(tx.objects.garbage(tx.now + timedelta(days=1), 100))


async def test_object_is_read_back_as_put(store: Store) -> None:
    await store.run(lambda tx: tx.objects.put(item("k")))
    assert await store.read(lambda tx: tx.objects.get(BUCKET, "k")) == item("k")
    assert await store.read(lambda tx: tx.objects.get(BUCKET, "K")) is None


async def test_odd_keys_are_distinct_and_sorted_by_their_bytes(store: Store) -> None:
    await store.run(put_all, ODD_KEYS)
    for key in ODD_KEYS:
        assert await store.read(lambda tx, key=key: tx.objects.get(BUCKET, key)) == item(key)
    listed = [found.key for found in (await store.read(page)).objects]
    assert listed == sorted(ODD_KEYS, key=str.encode)


async def test_replaced_and_deleted_files_become_garbage(store: Store) -> None:
    for file_id in ("one", "two"):
        await store.run(lambda tx, file_id=file_id: tx.objects.put(item("k", file_id)))
    assert await store.read(garbage_of) == {"one"}
    assert await store.run(lambda tx: tx.objects.delete(BUCKET, "k"))
    assert not await store.run(lambda tx: tx.objects.delete(BUCKET, "k"))
    assert await store.read(garbage_of) == {"one", "two"}


async def test_garbage_is_given_when_it_is_old_and_until_forgotten(store: Store) -> None:
    await store.run(put_all, ["k"])
    await store.run(lambda tx: tx.objects.delete(BUCKET, "k"))
    assert await store.read(lambda tx: tx.objects.garbage(tx.now - timedelta(seconds=60), 9)) == []
    [file_id] = await store.read(garbage_of)
    await store.run(lambda tx: tx.objects.forget_garbage([file_id]))
    assert await store.read(garbage_of) == set()


async def test_put_that_fails_later_changes_nothing(store: Store) -> None:
    await store.run(lambda tx: tx.objects.put(item("k", "old")))

    def put_and_fail(tx: Transaction) -> None:
        tx.objects.put(item("k", "new"))
        raise BucketNotEmpty

    with pytest.raises(BucketNotEmpty):
        await store.run(put_and_fail)
    assert await store.read(lambda tx: tx.objects.get(BUCKET, "k")) == item("k", "old")
    assert await store.read(garbage_of) == set()


async def test_puts_at_once_leave_one_object_and_the_rest_as_garbage(store: Store) -> None:
    names = [f"file-{number}" for number in range(20)]
    await asyncio.gather(*(store.run(lambda tx, name=name: tx.objects.put(item("k", name))) for name in names))
    left = await store.read(lambda tx: tx.objects.get(BUCKET, "k"))
    assert left is not None
    assert await store.read(garbage_of) == set(names) - {left.file_id}


async def test_file_ids_tell_what_any_row_names(store: Store) -> None:
    await store.run(lambda tx: tx.objects.put(item("k", "old")))
    await store.run(lambda tx: tx.objects.put(item("k", "new")))
    await store.run(lambda tx: tx.objects.uploads.put_part(part("u", 1, "part")))
    found = await store.read(lambda tx: tx.objects.file_ids(["old", "new", "part", "unknown"]))
    assert found == {"old", "new", "part"}


# --- lists ---------------------------------------------------------------------------------------------------------

TREE = ["a.txt", "a/1", "a/2", "a/b/3", "a0", "b/1", "c", "中/1", "中/2"]


@pytest.mark.parametrize(
    ("wanted", "keys", "prefixes"),
    [
        ({}, TREE, []),
        ({"prefix": "a/"}, ["a/1", "a/2", "a/b/3"], []),
        ({"prefix": "a/", "delimiter": "/"}, ["a/1", "a/2"], ["a/b/"]),
        ({"delimiter": "/"}, ["a.txt", "a0", "c"], ["a/", "b/", "中/"]),
        ({"delimiter": "/", "marker": "a/"}, ["a0", "c"], ["b/", "中/"]),
        ({"delimiter": "/", "marker": "a/1"}, ["a0", "c"], ["b/", "中/"]),
        ({"marker": "a/2"}, ["a/b/3", "a0", "b/1", "c", "中/1", "中/2"], []),
        ({"prefix": "b", "marker": "a"}, ["b/1"], []),
        ({"prefix": "a", "marker": "b"}, [], []),
        ({"delimiter": "/1"}, ["a.txt", "a/2", "a/b/3", "a0", "c", "中/2"], ["a/1", "b/1", "中/1"]),
        ({"size": 0}, [], []),
    ],
)
async def test_list_selects(store: Store, wanted: dict[str, object], keys: list[str], prefixes: list[str]) -> None:
    await store.run(put_all, TREE)
    await store.run(lambda tx: tx.objects.put(item("other", bucket="other-1250000000")))
    found = await store.read(page, **wanted)
    assert ([entry.key for entry in found.objects], list(found.common_prefixes)) == (keys, prefixes)
    assert found.next_marker == ""


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_pages_give_everything_once(store: Store, size: int, delimiter: str) -> None:
    await store.run(put_all, TREE)
    whole = await store.read(page, delimiter=delimiter)
    keys: list[str] = []
    prefixes: list[str] = []
    marker = ""
    while True:
        found = await store.read(page, delimiter=delimiter, size=size, marker=marker)
        assert len(found.objects) + len(found.common_prefixes) <= size
        keys += [entry.key for entry in found.objects]
        prefixes += found.common_prefixes
        if not (marker := found.next_marker):
            break
    assert (keys, prefixes) == ([entry.key for entry in whole.objects], list(whole.common_prefixes))


async def test_common_prefix_with_many_keys_costs_few_queries(store: Store) -> None:
    await store.run(put_all, [f"big/{number:04}" for number in range(1000)] + ["z"])
    statements = []
    engine = store.engine if store.read == store.run else store._read_engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    found = await store.read(page, delimiter="/")
    assert (found.common_prefixes, [entry.key for entry in found.objects]) == (("big/",), ["z"])
    assert len([text for text in statements if "FROM object" in text]) <= 2


# --- buckets -------------------------------------------------------------------------------------------------------


async def test_bucket_is_made_once_and_kept_as_it_was(store: Store) -> None:
    assert await store.run(lambda tx: tx.buckets.ensure(Bucket(BUCKET, "ap-chongqing", AT)))
    assert not await store.run(lambda tx: tx.buckets.ensure(Bucket(BUCKET, "elsewhere", AT)))
    assert await store.read(lambda tx: tx.buckets.all()) == [Bucket(BUCKET, "ap-chongqing", AT)]
    assert await store.read(lambda tx: tx.buckets.get("none-1")) is None


async def test_bucket_with_objects_is_not_deleted(store: Store) -> None:
    await store.run(lambda tx: tx.buckets.ensure(Bucket(BUCKET, "ap-chongqing", AT)))
    await store.run(put_all, ["k"])
    with pytest.raises(BucketNotEmpty):
        await store.run(lambda tx: tx.buckets.delete(BUCKET))
    await store.run(lambda tx: tx.objects.delete(BUCKET, "k"))
    assert await store.run(lambda tx: tx.buckets.delete(BUCKET))
    assert not await store.run(lambda tx: tx.buckets.delete(BUCKET))


async def test_uploads_end_with_their_bucket(store: Store) -> None:
    await store.run(lambda tx: tx.buckets.ensure(Bucket(BUCKET, "ap-chongqing", AT)))
    await store.run(start_upload, "u", [part("u", 1, "one")])
    await store.run(lambda tx: tx.buckets.delete(BUCKET))
    assert await store.read(lambda tx: tx.objects.uploads.get("u")) is None
    assert await store.read(garbage_of) == {"one"}


# --- uploads -------------------------------------------------------------------------------------------------------


def part(upload_id: str, number: int, file_id: str) -> Part:
    return Part(upload_id, number, file_id, 3, f'"{file_id}"', (1 << 64) - number, AT)


def start_upload(tx: Transaction, upload_id: str, parts: list[Part], key: str = "big") -> None:
    tx.objects.uploads.create(Upload(upload_id, BUCKET, key, AT, {"x-cos-meta-a": "b"}))
    for one in parts:
        tx.objects.uploads.put_part(one)


async def test_parts_are_given_in_order_and_replaced_by_number(store: Store) -> None:
    await store.run(start_upload, "u", [part("u", 2, "two"), part("u", 1, "old"), part("u", 1, "one")])
    assert await store.read(lambda tx: tx.objects.uploads.get("u")) == Upload(
        "u", BUCKET, "big", AT, {"x-cos-meta-a": "b"}
    )
    parts = await store.read(lambda tx: tx.objects.uploads.parts("u"))
    assert parts == [part("u", 1, "one"), part("u", 2, "two")]
    assert await store.read(lambda tx: tx.objects.uploads.parts("u", after=1, limit=1)) == [part("u", 2, "two")]
    assert await store.read(garbage_of) == {"old"}


async def test_completed_upload_becomes_the_pieces_of_an_object(store: Store) -> None:
    await store.run(start_upload, "u", [part("u", number, f"file-{number}") for number in (1, 2, 3)])
    whole = replace(item("big", "u"), is_multipart=True)

    def complete(tx: Transaction) -> None:
        tx.objects.uploads.complete("u", [1, 3])
        tx.objects.put(whole)

    await store.run(complete)
    assert await store.read(lambda tx: tx.objects.uploads.get("u")) is None
    assert await store.read(lambda tx: tx.objects.pieces(whole)) == (Piece("file-1", 3), Piece("file-3", 3))
    assert await store.read(garbage_of) == {"file-2"}
    await store.run(lambda tx: tx.objects.put(item("big", "small")))
    assert await store.read(garbage_of) == {"file-1", "file-2", "file-3"}


async def test_aborted_upload_leaves_garbage_only(store: Store) -> None:
    await store.run(start_upload, "u", [part("u", 1, "one")])
    await store.run(lambda tx: tx.objects.uploads.abort("u"))
    assert await store.read(lambda tx: tx.objects.uploads.parts("u")) == []
    assert await store.read(garbage_of) == {"one"}


@pytest.mark.parametrize("size", [1, 2, 9])
async def test_uploads_of_one_key_are_paged_by_id(store: Store, size: int) -> None:
    for upload_id, key in (("u1", "a"), ("u2", "a"), ("u3", "a/b"), ("u4", "c")):
        await store.run(start_upload, upload_id, [], key)
    ids: list[str] = []
    marker, marker_id = "", ""
    while True:
        wanted = ListQuery(size=size, marker=marker, marker_id=marker_id)
        found = await store.read(lambda tx, wanted=wanted: tx.objects.uploads.select(BUCKET, wanted))
        ids += [upload.id for upload in found.uploads]
        marker, marker_id = found.next_marker, found.next_marker_id
        if not marker:
            break
    assert ids == ["u1", "u2", "u3", "u4"]


async def test_uploads_are_selected_by_prefix_and_delimiter(store: Store) -> None:
    for upload_id, key in (("u1", "a"), ("u2", "b/1"), ("u3", "b/2"), ("u4", "c")):
        await store.run(start_upload, upload_id, [], key)
    found = await store.read(lambda tx: tx.objects.uploads.select(BUCKET, ListQuery(delimiter="/", marker="a")))
    assert ([upload.id for upload in found.uploads], found.common_prefixes) == (["u4"], ("b/",))
    found = await store.read(lambda tx: tx.objects.uploads.select(BUCKET, ListQuery(prefix="b/", marker="b/1")))
    assert [upload.id for upload in found.uploads] == ["u3"]

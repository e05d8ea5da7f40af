"""What every store promises about access: keys with policies, public buckets, jobs by the prefix of their input."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cloudfinite.adapters.seal import AesSeal
from cloudfinite.domain.access import EVERYTHING, NOTHING, AccessKey, Action, Policy, Rule
from cloudfinite.domain.ids import new_job_id, new_queue_id
from cloudfinite.domain.job import Job, JobFilter, JobInput
from cloudfinite.domain.objects import Acl, Bucket
from cloudfinite.domain.queue import Queue
from cloudfinite.errors import AccessKeyExists, AccessKeyNotFound, ExpiredToken, InvalidArgument, NoSuchBucket
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.access import Keyring
from cloudfinite.service.buckets import BucketService

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
READER = Policy((Rule(("a-1",), ("in/", "out/"), ("cos:Get*", "cos:Head*")), Rule(("b-1",))))
HOUR = timedelta(hours=1)


class Clock:
    at = AT

    def __call__(self) -> datetime:
        return self.at


async def keyring(store: Store, clock: Clock | None = None) -> Keyring:
    made = Keyring(store, AesSeal("installation"), clock or Clock())
    await made.load()
    return made


# --- rows ----------------------------------------------------------------------------------------------------------


async def test_key_comes_back_as_it_was_put(store: Store) -> None:
    keys = [AccessKey("AKID1", READER, AT), AccessKey("AKID2", EVERYTHING, AT + HOUR, is_enabled=False)]
    for key in reversed(keys):
        await store.run(lambda tx, key=key: tx.keys.put(key, key.secret_id.encode()))
    assert await store.read(lambda tx: tx.keys.all()) == [(keys[0], b"AKID1"), (keys[1], b"AKID2")]
    assert await store.read(lambda tx: tx.keys.get("AKID2")) == keys[1]
    assert await store.read(lambda tx: tx.keys.get("AKID3")) is None


async def test_replaced_key_keeps_its_secret_and_its_birth(store: Store) -> None:
    key = AccessKey("AKID1", EVERYTHING, AT)
    await store.run(lambda tx: tx.keys.put(key, b"sealed"))
    await store.run(lambda tx: tx.keys.replace(replace(key, policy=READER, is_enabled=False)))
    [(found, sealed)] = await store.read(lambda tx: tx.keys.all())
    assert (found, sealed) == (AccessKey("AKID1", READER, AT, is_enabled=False), b"sealed")


async def test_acl_is_kept_with_the_bucket(store: Store) -> None:
    buckets = BucketService(store)
    await buckets.create_bucket("a-1", "ap-chongqing")
    await buckets.create_bucket("b-1", "ap-chongqing", Acl.PUBLIC_READ)
    assert [bucket.acl for bucket in await buckets.list_buckets()] == [Acl.PRIVATE, Acl.PUBLIC_READ]
    await buckets.set_cors("b-1", [])
    assert (await buckets.set_acl("a-1", Acl.PUBLIC_READ)).acl is Acl.PUBLIC_READ
    assert [bucket.acl for bucket in await buckets.list_buckets()] == [Acl.PUBLIC_READ] * 2
    with pytest.raises(NoSuchBucket):
        await buckets.set_acl("c-1", Acl.PRIVATE)


def job_on(queue: Queue, number: int, source: JobInput) -> Job:
    at = AT + timedelta(seconds=number)
    return Job(new_job_id("a", at), queue.bucket, "ap-chongqing", "ImageOCR", queue.id, source, {}, at)


async def test_jobs_are_listed_by_how_their_inputs_keys_begin(store: Store) -> None:
    queue = Queue(new_queue_id(), "a-1", "ai", "queue-ai", AT, AT)
    inputs = [JobInput(key) for key in ("in/1", "IN/2", "in%3", "in_/4", "out/5", "i")] + [JobInput(url="http://x/in/")]
    jobs = [job_on(queue, number, source) for number, source in enumerate(inputs)]

    def add(tx: Transaction) -> None:
        tx.buckets.ensure(Bucket("a-1", "ap-chongqing", AT))
        tx.queues.ensure(queue)
        tx.jobs.insert(jobs)

    async def found(*prefixes: str) -> list[str]:
        rows = await store.read(lambda tx: tx.jobs.select("a-1", JobFilter(object_prefixes=prefixes)))
        return sorted(job.input.object_key for job, _ in rows)

    await store.run(add)
    assert await found("in/") == ["in/1"]
    assert await found("in%", "out/") == ["in%3", "out/5"]
    assert await found("") == sorted(source.object_key for source in inputs)
    assert await found("IN/") == ["IN/2"]


# --- the keyring ---------------------------------------------------------------------------------------------------


async def test_keyring_knows_what_another_process_changed(store: Store) -> None:
    first, second = await keyring(store), await keyring(store)
    secret_id, secret = await first.create(policy=READER)
    await second.load()
    assert second.secret_of(secret_id) == secret
    await second.change(secret_id, is_enabled=False)
    await first.load()
    assert first.secret_of(secret_id) is None
    assert first.grant_of(secret_id) == NOTHING
    assert (await first.change(secret_id, is_enabled=True)).policy == READER


async def test_secret_lies_sealed(store: Store) -> None:
    _, secret = await (await keyring(store)).create("AKID1")
    [(_, sealed)] = await store.read(lambda tx: tx.keys.all())
    assert secret.encode() not in sealed


async def test_key_of_the_settings_keeps_its_policy_over_a_start(store: Store) -> None:
    await (await keyring(store)).ensure("AKID1", "secret")
    await (await keyring(store)).change("AKID1", policy=READER)
    again = await keyring(store)
    await again.ensure("AKID1", "new secret")
    assert (again.secret_of("AKID1"), again.find("AKID1").policy) == ("new secret", READER)


async def test_known_id_is_not_created_twice(store: Store) -> None:
    first, second = await keyring(store), await keyring(store)
    await first.create("AKID1", policy=READER)
    with pytest.raises(AccessKeyExists):
        await second.create("AKID1")  # which has not read of it yet
    assert (await keyring(store)).find("AKID1").policy == READER


async def test_unknown_and_last_key_are_not_removed(store: Store) -> None:
    keys = await keyring(store)
    await keys.create("AKID1")
    with pytest.raises(InvalidArgument, match="only access key"):
        await keys.remove("AKID1")
    for wanted in (keys.remove("AKID2"), keys.change("AKID2", is_enabled=False)):
        with pytest.raises(AccessKeyNotFound):
            await wanted


async def test_temporary_credentials_may_do_what_both_policies_allow(store: Store) -> None:
    keys = await keyring(store)
    await keys.create("AKID1", policy=READER)
    made = keys.issue("AKID1", Policy((Rule(("*",), ("in/sub/", "else/"), ("cos:*",)),)), HOUR)
    assert keys.secret_of(made.secret_id, made.token) == made.secret_key
    grant = keys.grant_of(made.secret_id, made.token)
    assert grant.prefixes(Action.GET_OBJECT, "a-1") == ("in/sub/",)
    assert grant.prefixes(Action.PUT_OBJECT, "a-1") == ()
    assert grant.prefixes(Action.PUT_OBJECT, "b-1") == ("else/", "in/sub/")
    assert not grant.sees("c-1")


async def test_token_belongs_to_its_own_id(store: Store) -> None:
    keys = await keyring(store)
    await keys.create("AKID1")
    made, other = (keys.issue("AKID1", EVERYTHING, HOUR) for _ in range(2))
    for secret_id, token in (
        ("AKID1", made.token),
        (made.secret_id, ""),
        (made.secret_id, other.token),
        ("AKID1", "x"),
    ):
        assert keys.secret_of(secret_id, token) is None
        assert keys.grant_of(secret_id, token) == NOTHING


async def test_temporary_credentials_end_with_their_time(store: Store) -> None:
    clock = Clock()
    keys = await keyring(store, clock)
    await keys.create("AKID1")
    made = keys.issue("AKID1", EVERYTHING, HOUR)
    clock.at = AT + HOUR - timedelta(seconds=1)
    assert keys.grant_of(made.secret_id, made.token).policies
    clock.at = AT + HOUR
    with pytest.raises(ExpiredToken):
        keys.grant_of(made.secret_id, made.token)


@pytest.mark.parametrize("end", ["disable", "remove", "other secret"])
async def test_temporary_credentials_end_with_their_key(store: Store, end: str) -> None:
    keys = await keyring(store)
    await keys.create("AKID1")
    await keys.create("AKID2")
    made = keys.issue("AKID1", EVERYTHING, HOUR)
    if end == "disable":
        await keys.change("AKID1", is_enabled=False)
    else:
        await keys.remove("AKID1")
    if end == "other secret":
        await keys.create("AKID1")  # of the same name, as somebody else's
    assert keys.secret_of(made.secret_id, made.token) != made.secret_key


async def test_narrowed_key_narrows_what_was_derived_from_it(store: Store) -> None:
    keys = await keyring(store)
    await keys.create("AKID1")
    made = keys.issue("AKID1", EVERYTHING, HOUR)
    await keys.change("AKID1", policy=READER)
    assert not keys.grant_of(made.secret_id, made.token).allows(Action.PUT_OBJECT, "a-1", "in/1")


async def test_public_bucket_lets_anybody_read_its_objects_alone(store: Store) -> None:
    buckets, keys = BucketService(store), await keyring(store)
    await buckets.create_bucket("a-1", "ap-chongqing")
    assert await keys.public_grant("a-1") == await keys.public_grant("none-1") == NOTHING
    await buckets.set_acl("a-1", Acl.PUBLIC_READ)
    grant = await keys.public_grant("a-1")
    allowed = {action for action in Action if grant.prefixes(action, "a-1")}
    assert allowed == {Action.GET_OBJECT, Action.HEAD_OBJECT}
    assert not grant.sees("b-1")

"""The JSON API of a running server: jobs, queues, deliveries, keys, and its own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from qcloud_cos import CosServiceError
from tests.support.api_caller import ROOT, ApiCaller

from cloudfinite.receiver import verify
from cloudfinite.testing import Server

LINES = [{"text": "Plow the fields at noon", "box": [40, 24, 176, 35]}]
METHODS = {"get", "post", "patch", "delete", "put"}


@pytest.fixture(scope="module")
def api() -> Iterator[ApiCaller]:
    with Server(
        ocr_engine="fixed",
        ocr_options={"lines": LINES},
        workers=1,
        operation_modules=["tests.integration.pool_operations"],
        callback_secret="whsec_" + "c2VjcmV0" * 4,
        retry_schedule_s=[0],
    ) as server:
        caller = ApiCaller(server)
        caller.put("page.png")
        yield caller


def finished(api: ApiCaller, *keys: str, **fields: Any) -> list[str]:
    ids = api.submit(*keys, **fields)
    for job_id in ids:
        api.wait_for(job_id, "Success", "Failed")
    return ids


# --- jobs ----------------------------------------------------------------------------------------------------------


def test_submitted_job_is_shown_with_parameters_result_and_delivery(api: ApiCaller) -> None:
    url = api.server.inbox("shown")
    [job_id] = api.submit("page.png", params={"mode": "fast"}, user_data="order=1", callback={"url": url})
    api.server.wait_for_callbacks("shown", 1)
    job = api.wait_for(job_id, "Success")
    assert (job["object"], job["params"]["mode"], job["user_data"]) == ("page.png", "fast", "order=1")
    assert [line["text"] for line in job["result"]["lines"]] == ["Plow the fields at noon"]
    assert [delivery["url"] for delivery in job["deliveries"]] == [url]
    assert datetime.fromisoformat(job["created_at"]).utcoffset() == timedelta(0)


def test_failed_job_tells_code_and_message(api: ApiCaller) -> None:
    [job_id] = finished(api, "no-such.png")
    job = api.get(f"/jobs/{job_id}")
    assert (job["state"], job["code"], job["result"]) == ("Failed", "ResourceNotFound", None)


def test_pages_join_into_the_whole_list_newest_first(api: ApiCaller) -> None:
    ids = finished(api, *["no-such.png"] * 5, tag="NoOp", user_data="paged")
    found: list[str] = []
    after, pages = "", 0
    while after is not None:
        page = api.get("/jobs", tag="NoOp", size=2, after=after)
        found += [job["id"] for job in page["items"] if job["user_data"] == "paged"]
        after, pages = page["next"], pages + 1
    assert found == ids[::-1]
    assert pages >= 3


def test_filters_select(api: ApiCaller) -> None:
    [good] = finished(api, "page.png", tag="NoOp", user_data="filtered")
    [bad] = finished(api, "filtered.png", tag="NoOp")
    bucket = api.server.bucket

    def ids(**query: object) -> set[str]:
        return {job["id"] for job in api.get("/jobs", size=200, **query)["items"]} & {good, bad}

    assert ids(state="Failed") == {bad}
    assert ids(state="Failed,Success", tag="NoOp") == {good, bad}
    assert ids(bucket=bucket, object="filtered.png") == {bad}
    assert ids(bucket="another-1250000000") == set()
    assert ids(queue=api.queue("file")["id"]) == {good, bad}
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert ids(**{"from": later}) == set()
    assert ids(to=later) == {good, bad}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"size": 201}, "size is '201'"),
        ({"state": "Fine"}, "state.0 is 'Fine'"),
        ({"colour": "red"}, "there is no parameter colour"),
        ({"after": "bm8"}, "send the `next` of the page before"),
        ({"after": "WzEsIDFlOTld"}, "send the `next` of the page before"),
        ({"from": "1767600000"}, "a time is written"),
        ({"from": "2026-01-05T10:00:00"}, "timezone"),
        ({"object": "a.png"}, "send bucket too"),
    ],
)
def test_wrong_query_is_told(api: ApiCaller, query: dict[str, object], told: str) -> None:
    status, code, message = api.refused("GET", "/jobs", **query)
    assert (status, code) == (400, "InvalidArgument")
    assert told in message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objects": []}, "1 to 100 are allowed"),
        ({"objects": ["a"] * 101}, "at most 100"),
        ({"objects": [""]}, "the object key is empty"),
        ({"objects": ["a\0b"]}, "NUL"),
        ({"params": {"mode": "quick"}}, "mode is 'quick'"),
        ({"params": {"Type": "fast"}}, "there is no params.Type of ImageOCR"),
        ({"params": {"pdf_page_number": 0}}, "must be 1 or more"),
        ({"tag": "Nonsense"}, "the tags that run here"),
        ({"callback": {"url": "ftp://host/"}}, "callback.url"),
        ({"level": 3}, "level is 3"),
        ({"colour": "red"}, "there is no field colour"),
        ({"template_id": "t1none"}, "does not exist"),
        ({"bucket": "none-1250000000"}, "does not exist"),
    ],
)
def test_wrong_submission_is_told_and_makes_no_job(api: ApiCaller, change: dict[str, Any], told: str) -> None:
    before = api.get("/jobs", size=1)["items"]
    body = {"bucket": api.server.bucket, "objects": ["page.png"], **change}
    status, _, message = api.refused("POST", "/jobs", body)
    assert status in (400, 404)
    assert told in message
    assert api.get("/jobs", size=1)["items"] == before


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"bucket": NaN}', b"[" * 100_000, b"\xff", b'{"bucket": "\\ud800"}']
)
def test_unreadable_body_is_told(api: ApiCaller, body: bytes) -> None:
    status, headers, text = api.request("POST", f"{ROOT}/jobs", body, {"Authorization": f"Bearer {api.token}"})
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert json.loads(text)["error"]["message"]


def test_waiting_job_is_cancelled_without_callback(api: ApiCaller) -> None:
    queue = api.queue("file") if finished(api, "page.png", tag="NoOp") else None
    path = f"/queues/{queue['id']}"
    api.call("PATCH", path, {"max_concurrent": 0})
    [job_id] = api.submit("page.png", tag="NoOp", callback={"url": api.server.inbox("cancelled")})
    assert api.post(f"/jobs/{job_id}/cancel")["state"] == "Cancel"
    api.call("PATCH", path, {"max_concurrent": 100})
    finished(api, "page.png", tag="NoOp")
    job = api.get(f"/jobs/{job_id}")
    assert (job["state"], job["deliveries"]) == ("Cancel", [])


def test_running_job_is_cancelled_and_its_child_takes_the_next_one(api: ApiCaller) -> None:
    [job_id] = api.submit(api.put("hang.bin"), tag="Hang", callback={"url": api.server.inbox("hung")})
    api.wait_for(job_id, "Running")
    cancelled = api.post(f"/jobs/{job_id}/cancel")
    assert (cancelled["state"], cancelled["ended_at"] is not None) == ("Cancel", True)
    finished(api, "page.png", tag="NoOp")  # the only child would hang for two minutes
    job = api.get(f"/jobs/{job_id}")
    assert (job["state"], job["deliveries"]) == ("Cancel", [])


def test_cancelling_twice_is_harmless_and_an_ended_job_stays(api: ApiCaller) -> None:
    [ended] = finished(api, "page.png", tag="NoOp")
    assert "only a waiting or running job" in api.refused("POST", f"/jobs/{ended}/cancel")[2]
    [job_id] = api.submit(api.put("hang.bin"), tag="Hang")
    api.post(f"/jobs/{job_id}/cancel")
    assert api.post(f"/jobs/{job_id}/cancel")["state"] == "Cancel"


def test_rerun_is_a_new_job_with_the_same_input_parameters_and_callback(api: ApiCaller) -> None:
    url = api.server.inbox("again")
    [old_id] = finished(api, "again.png", params={"mode": "accurate"}, user_data="u", callback={"url": url})
    rerun = api.post(f"/jobs/{old_id}/rerun")
    assert rerun["original_id"] == old_id != rerun["job_id"]
    old, new = api.get(f"/jobs/{old_id}"), api.get(f"/jobs/{rerun['job_id']}")
    same = ("bucket", "object", "tag", "params", "callback", "user_data", "queue_id", "level")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    api.server.wait_for_callbacks("again", 2)


def test_rerun_of_all_that_match_goes_on_where_it_stopped_and_ends(api: ApiCaller) -> None:
    ids = finished(api, *["rerun.png"] * 5, tag="NoOp")
    wanted = {"bucket": api.server.bucket, "object": "rerun.png"}
    originals: list[str] = []
    after: str | None = ""
    while after is not None:
        page = api.post("/jobs/rerun", {**wanted, "after": after, "size": 2})
        originals += [item["original_id"] for item in page["items"]]
        assert page["count"] == len(page["items"]) <= 2
        after = page["next"]
        for item in page["items"]:
            api.wait_for(item["job_id"], "Failed")  # fails again, and is not met by the next call
    assert originals == ids


def test_job_that_has_not_ended_is_not_run_again(api: ApiCaller) -> None:
    [job_id] = api.submit(api.put("hang.bin"), tag="Hang")
    assert "only an ended job" in api.refused("POST", f"/jobs/{job_id}/rerun")[2]
    assert "only ended jobs" in api.refused("POST", "/jobs/rerun", {"state": ["Running"]})[2]
    api.post(f"/jobs/{job_id}/cancel")


def test_full_queue_refuses_the_rerun_whole(api: ApiCaller) -> None:
    finished(api, *["full.png"] * 3, tag="NoOp")
    path = f"/queues/{api.queue('file')['id']}"
    api.call("PATCH", path, {"max_size": 2})
    wanted = {"bucket": api.server.bucket, "object": "full.png"}
    assert api.refused("POST", "/jobs/rerun", wanted)[1] == "QueueSaturated"
    api.call("PATCH", path, {"max_size": 1_000})
    assert len(api.get("/jobs", **wanted)["items"]) == 3


# --- queues --------------------------------------------------------------------------------------------------------


def test_queue_is_changed_as_told_and_keeps_the_rest(api: ApiCaller) -> None:
    finished(api, "page.png")
    before = api.queue("ai")
    notify = {"is_on": True, "url": api.server.inbox("queue"), "events": ["TaskFinish"]}
    status, after = api.call("PATCH", f"/queues/{before['id']}", {"name": "pages", "max_size": 7, "notify": notify})
    assert status == 200
    assert after == api.get(f"/queues/{before['id']}")
    expected = {**before, "name": "pages", "max_size": 7, "notify": {**notify, "format": "XML"}}
    assert {**after, "updated_at": ""} == {**expected, "updated_at": ""}
    api.call("PATCH", f"/queues/{before['id']}", {"max_size": 1_000, "notify": {"is_on": False}})


def test_paused_queue_refuses_and_counts_what_waits(api: ApiCaller) -> None:
    finished(api, "page.png")
    path = f"/queues/{api.queue('ai')['id']}"
    api.call("PATCH", path, {"max_concurrent": 0})
    [job_id] = api.submit("page.png")
    assert api.get(path)["waiting"] == 1
    api.call("PATCH", path, {"state": "Paused"})
    assert api.get(f"/jobs/{job_id}")["state"] == "Pause"
    refusal = api.refused("POST", "/jobs", {"bucket": api.server.bucket, "objects": ["page.png"]})
    assert refusal[:2] == (403, "QueuePaused")
    api.call("PATCH", path, {"state": "Active", "max_concurrent": 10})
    api.wait_for(job_id, "Success")


def test_running_jobs_of_a_queue_are_counted(api: ApiCaller) -> None:
    [job_id] = api.submit(api.put("hang.bin"), tag="Hang")
    api.wait_for(job_id, "Running")
    assert api.queue("file")["running"] == 1
    api.post(f"/jobs/{job_id}/cancel")
    assert api.queue("file")["running"] == 0


@pytest.mark.parametrize(
    "change",
    [{"max_size": -1}, {"max_concurrent": 10**10}, {"state": "Off"}, {"name": ""}, {"name": "名" * 60},
     {"notify": {"is_on": True, "url": ""}}, {"notify": {"events": ["Other"]}}, {"id": "p1"}],
)  # fmt: skip
def test_wrong_queue_change_is_refused(api: ApiCaller, change: dict[str, Any]) -> None:
    finished(api, "page.png")
    queue = api.queue("ai")
    assert api.refused("PATCH", f"/queues/{queue['id']}", change)[:2] == (400, "InvalidArgument")
    assert api.queue("ai") == queue


# --- deliveries ----------------------------------------------------------------------------------------------------


def test_delivery_shows_the_bytes_that_were_sent_and_its_attempts(api: ApiCaller) -> None:
    [job_id] = api.submit("page.png", callback={"url": api.server.inbox("bytes"), "format": "JSON"})
    [callback] = api.server.wait_for_callbacks("bytes", 1)
    delivery_id = callback.headers["webhook-id"]
    delivery = api.wait_sent(delivery_id)
    assert delivery["body"].encode() == callback.body
    assert (delivery["job_id"], delivery["content_type"]) == (job_id, "application/json")
    assert [(one["number"], one["outcome"], one["status"]) for one in delivery["tries"]] == [(1, "delivered", 200)]


def test_replayed_delivery_has_the_same_id_and_bytes(api: ApiCaller) -> None:
    api.submit("page.png", callback={"url": api.server.inbox("twice")})
    [first] = api.server.wait_for_callbacks("twice", 1)
    api.wait_sent(first.headers["webhook-id"])
    api.post(f"/deliveries/{first.headers['webhook-id']}/replay")
    [_, second] = api.server.wait_for_callbacks("twice", 2)
    assert (second.body, second.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])


def test_all_failed_of_a_target_are_sent_again_since_a_time(api: ApiCaller) -> None:
    url = api.server.inbox("down")
    since = datetime.now(UTC).isoformat()
    api.set_faults("down", {"kind": "status", "status": 400, "times": 2})
    for job_id in finished(api, "page.png", "page.png", callback={"url": url}):
        [delivery] = api.get(f"/jobs/{job_id}")["deliveries"]
        assert api.wait_sent(delivery["id"])["state"] == "failed"
    assert {one["state"] for one in api.get("/deliveries", url=url)["items"]} == {"failed"}
    assert api.post("/deliveries/replay", {"url": url, "since": since}) == {"count": 2}
    for delivery in api.get("/deliveries", url=url)["items"]:
        assert api.wait_sent(delivery["id"], attempts=2)["state"] == "delivered"


def test_paused_target_gets_nothing_until_it_is_resumed(api: ApiCaller) -> None:
    url = api.server.inbox("paused")
    api.submit("page.png", callback={"url": url})
    api.server.wait_for_callbacks("paused", 1)
    paused = api.post("/target/pause", {"url": url, "reason": "moving house"})
    assert (paused["state"], paused["paused_reason"]) == ("paused", "moving house")
    [job_id] = finished(api, "page.png", callback={"url": url})
    [delivery] = api.get(f"/jobs/{job_id}")["deliveries"]
    assert delivery["state"] == "waiting"
    assert len(api.server.callbacks("paused")) == 1
    assert api.post("/target/resume", {"url": url})["state"] == "active"
    api.server.wait_for_callbacks("paused", 2)


def test_new_secret_of_a_target_is_shown_once(api: ApiCaller) -> None:
    url = api.server.inbox("signed")
    secret = api.post("/target/secret", {"url": url})["secret"]
    assert secret.startswith("whsec_")
    assert secret not in json.dumps(api.get("/target", url=url))
    assert api.get("/target", url=url)["own_secrets"] == 1


def test_dropped_secret_leaves_the_target_without_its_own(api: ApiCaller) -> None:
    url = api.server.inbox("unsigned")
    api.post("/target/secret", {"url": url})
    status, target = api.call("DELETE", "/target/secret", url=url, overlap_s=0)
    assert (status, target["own_secrets"]) == (200, 0)
    assert api.refused("DELETE", "/target/secret", url="http://never.example/")[:2] == (404, "TargetNotFound")


def test_bucket_gets_a_secret_of_its_own_and_loses_it(api: ApiCaller) -> None:
    path = f"/buckets/{api.server.bucket}/secret"
    assert api.get(path) == {"bucket": api.server.bucket, "own_secrets": 0}
    secret = api.post(path, {"overlap_s": 0})["secret"]
    try:
        api.submit("page.png", callback={"url": api.server.inbox("of-bucket")})
        [callback] = api.server.wait_for_callbacks("of-bucket", 1)
        verify(callback.headers, callback.body, [secret])
        assert api.get(path)["own_secrets"] == 1
    finally:
        status, signing = api.call("DELETE", path, overlap_s=0)
    assert (status, signing["own_secrets"]) == (200, 0)
    assert api.refused("POST", "/buckets/nobody-1/secret", {})[:2] == (404, "NoSuchBucket")


def test_target_has_a_rate_before_anything_is_sent(api: ApiCaller) -> None:
    url = api.server.inbox("paced")
    assert api.post("/target/rate", {"url": url, "rate_per_s": 2.5})["rate_per_s"] == 2.5
    assert api.get("/target", url=url)["rate_per_s"] == 2.5
    assert api.refused("POST", "/target/rate", {"url": url, "rate_per_s": -1})[0] == 400
    assert api.refused("POST", "/target/rate", {"url": "ftp://x/", "rate_per_s": 1})[0] == 400


def test_removed_target_cancels_what_waits(api: ApiCaller) -> None:
    url = api.server.inbox("removed")
    api.post("/target/rate", {"url": url, "rate_per_s": 0})
    api.post("/target/pause", {"url": url})
    [job_id] = finished(api, "page.png", callback={"url": url})
    assert api.call("DELETE", "/target", url=url) == (200, {"count": 1})
    [delivery] = api.get(f"/jobs/{job_id}")["deliveries"]
    assert (delivery["state"], delivery["next_at"]) == ("cancelled", None)
    assert api.refused("GET", "/target", url=url)[:2] == (404, "TargetNotFound")
    assert [one["id"] for one in api.get("/deliveries", url=url, state="cancelled")["items"]] == [delivery["id"]]


def test_test_event_arrives(api: ApiCaller) -> None:
    delivery = api.post("/target/test", {"url": api.server.inbox("tried"), "format": "JSON"})
    [callback] = api.server.wait_for_callbacks("tried", 1)
    assert (delivery["event"], callback.headers["webhook-id"]) == ("Test", delivery["id"])
    assert json.loads(callback.body)["Response"]["EventName"] == "Test"


def test_targets_are_paged_by_url(api: ApiCaller) -> None:
    urls = [api.server.inbox(f"many-{number}") for number in range(3)]
    for url in urls:
        api.post("/target/secret", {"url": url})
    found, after = [], ""
    while after is not None:
        page = api.get("/targets", size=2, after=after)
        found += [target["url"] for target in page["items"]]
        after = page["next"]
    assert found == sorted(set(found))
    assert set(urls) <= set(found)


def test_what_does_not_exist_is_404(api: ApiCaller) -> None:
    found = [
        api.refused(method, path, body)[:2]
        for method, path, body in (
            ("GET", "/jobs/none", None),
            ("POST", "/jobs/none/cancel", {}),
            ("POST", "/jobs/none/rerun", {}),
            ("GET", "/queues/none", None),
            ("PATCH", "/queues/none", {}),
            ("GET", "/deliveries/none", None),
            ("POST", "/deliveries/none/replay", {}),
            ("POST", "/target/pause", {"url": "http://never.example/"}),
            ("DELETE", "/keys/none", None),
            ("GET", "/nothing", None),
        )
    ]
    assert found == [
        (404, code)
        for code in ("JobNotFound", "JobNotFound", "JobNotFound", "QueueNotFound", "QueueNotFound", "DeliveryNotFound",
                     "DeliveryNotFound", "TargetNotFound", "AccessKeyNotFound", "InvalidUrl")
    ]  # fmt: skip


# --- the server ----------------------------------------------------------------------------------------------------


def test_added_key_signs_until_it_is_removed(api: ApiCaller) -> None:
    pair = api.post("/keys")
    everything = [{"buckets": ["*"], "prefixes": [""], "actions": ["*"]}]
    shown = api.get(f"/keys/{pair['secret_id']}")
    assert shown in api.get("/keys")["items"]
    assert (shown["is_enabled"], shown["policy"], "secret_key" in shown) == (True, everything, False)
    api.put("signed.bin", pair=(pair["secret_id"], pair["secret_key"]))
    assert api.call("DELETE", f"/keys/{pair['secret_id']}")[0] == 200
    with pytest.raises(CosServiceError) as refused:
        api.put("signed.bin", pair=(pair["secret_id"], pair["secret_key"]))
    assert refused.value.get_error_code() == "InvalidAccessKeyId"


def test_key_secrets_are_never_listed_and_the_last_key_stays(api: ApiCaller) -> None:
    secret_id = api.server.secret_id
    assert api.server.secret_key not in json.dumps([api.get("/keys"), api.get("/server")])
    assert "add another one first" in api.refused("DELETE", f"/keys/{secret_id}")[2]
    refusal = api.refused("POST", "/keys", {"secret_id": secret_id, "secret_key": "x"})
    assert refusal[:2] == (409, "AccessKeyExists")


def test_server_tells_its_health_and_masks_secrets(api: ApiCaller) -> None:
    found = api.get("/server")
    assert (found["role"], found["database"], found["url"]) == ("all", "SQLite", api.server.url)
    assert (found["children"]["total"], found["problems"]) == (1, [])
    assert {"ImageOCR", "NoOp"} <= set(found["tags"])
    assert found["settings"]["callback_secret"] == found["settings"]["secret_key"] == "***"


def test_buckets_are_listed(api: ApiCaller) -> None:
    assert [(one["name"], one["region"]) for one in api.get("/buckets")["items"]] == [
        (api.server.bucket, api.server.region)
    ]


def test_key_is_changed_disabled_and_enabled(api: ApiCaller) -> None:
    pair = api.post("/keys")
    path, signer = f"/keys/{pair['secret_id']}", (pair["secret_id"], pair["secret_key"])
    rule = {"buckets": [api.server.bucket], "prefixes": ["in/"], "actions": ["cos:PutObject"]}
    status, changed = api.call("PATCH", path, {"policy": [rule]})
    assert (status, changed["policy"], changed["is_enabled"]) == (200, [rule], True)
    api.put("in/a", pair=signer)
    with pytest.raises(CosServiceError, match="AccessDenied"):
        api.put("out/a", pair=signer)
    assert api.call("PATCH", path, {"is_enabled": False})[1]["policy"] == [rule]
    with pytest.raises(CosServiceError, match="InvalidAccessKeyId"):
        api.put("in/a", pair=signer)
    assert "disabled" in api.refused("POST", "/credentials", {"secret_id": pair["secret_id"]})[2]
    api.call("PATCH", path, {"is_enabled": True})
    api.put("in/a", pair=signer)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"prefixs": ["in/"]}, "there is no field"),
        ({"actions": ["cos:GetObjekt"]}, "no action of this server"),
        ({"prefixes": ["in/*"]}, "plain text"),
        ({"buckets": []}, "buckets must be"),
    ],
)
def test_policy_that_would_not_do_what_it_says_is_refused(api: ApiCaller, rule: dict[str, Any], words: str) -> None:
    for method, path, body in (
        ("POST", "/keys", {}),
        ("PATCH", f"/keys/{api.server.secret_id}", {}),
        ("POST", "/credentials", {"secret_id": api.server.secret_id}),
    ):
        status, code, message = api.refused(method, path, {**body, "policy": [rule]})
        assert (status, code) == (400, "InvalidArgument") and words in message


def test_temporary_credentials_are_bounded(api: ApiCaller) -> None:
    before = datetime.now(UTC)
    made = api.post("/credentials", {"secret_id": api.server.secret_id, "lifetime_s": 60})
    assert timedelta(seconds=58) < datetime.fromisoformat(made["expires_at"]) - before < timedelta(seconds=70)
    for lifetime_s in (0, 36 * 3_600 + 1):
        body = {"secret_id": api.server.secret_id, "lifetime_s": lifetime_s}
        assert "lifetime_s" in api.refused("POST", "/credentials", body)[2]
    assert api.refused("POST", "/credentials", {"secret_id": "none"})[:2] == (404, "AccessKeyNotFound")


def test_bucket_is_opened_to_anybody_and_closed(api: ApiCaller) -> None:
    path = f"/buckets/{api.server.bucket}"
    assert api.call("PATCH", path, {})[1]["acl"] == "private"
    assert api.call("PATCH", path, {"acl": "public-read"})[1]["acl"] == "public-read"
    assert api.get("/buckets")["items"][0]["acl"] == "public-read"
    assert api.call("PATCH", path, {"acl": "private"})[1]["acl"] == "private"
    assert api.refused("PATCH", path, {"acl": "public-read-write"})[0] == 400
    assert api.refused("PATCH", "/buckets/none-1", {"acl": "private"})[:2] == (404, "NoSuchBucket")


def test_backup_is_a_copy_with_database_keys_and_objects(api: ApiCaller, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    assert api.post("/backup", {"target": str(target)}) == {"target": str(target)}
    assert {"cloudfinite.db", "secret.key", "objects"} <= {path.name for path in target.iterdir()}
    assert "exists already" in api.refused("POST", "/backup", {"target": str(target)})[2]
    assert "absolute path" in api.refused("POST", "/backup", {"target": "copy"})[2]


def test_statistics_count_what_ended(api: ApiCaller) -> None:
    finished(api, "page.png")
    rows = api.wait_for_stats("ImageOCR")
    assert sum(row["succeeded"] for row in rows) >= 1
    assert {row["bucket"] for row in rows} == {api.server.bucket}
    assert api.get("/stats", to=rows[0]["minute_at"])["items"] == []


# --- who may, and how it answers -----------------------------------------------------------------------------------


def test_changes_need_the_token_and_reading_on_loopback_does_not(api: ApiCaller) -> None:
    assert api.request("GET", f"{ROOT}/jobs")[0] == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Sec-Fetch-Site": "cross-site"}):
        assert api.request("POST", f"{ROOT}/keys", b"{}", headers)[0] == 403
    assert api.request("POST", f"{ROOT}/jobs/rerun", b'{"tag":"None"}', {"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_unknown_method_names_those_that_are_allowed(api: ApiCaller) -> None:
    status, headers, text = api.request("PUT", f"{ROOT}/jobs", b"{}", {"Authorization": f"Bearer {api.token}"})
    assert (status, headers["Allow"]) == (405, "GET, POST")
    assert json.loads(text)["error"]["request_id"] == headers["x-ci-request-id"]


# --- its description -----------------------------------------------------------------------------------------------


def references(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                if name == "$ref":
                    yield inner
                else:
                    yield from references(inner)
        case list():
            for inner in value:
                yield from references(inner)


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield method, path, described


def test_description_is_whole(api: ApiCaller) -> None:
    document = api.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]
    names = [reference.removeprefix("#/components/schemas/") for reference in references(document)]
    assert names and set(names) <= set(schemas)
    tags = {tag["name"] for tag in document["tags"]}
    ids = []
    for method, path, described in operations_of(document):
        ids.append(described["operationId"])
        assert method in METHODS and path.startswith("/") and described["summary"] and set(described["tags"]) <= tags
        in_path = [one["name"] for one in described["parameters"] if one["in"] == "path"]
        assert in_path == [part[1:-1] for part in path.split("/") if part.startswith("{")]
        assert any(status.startswith("2") for status in described["responses"]) and "default" in described["responses"]
        for parameter in described["parameters"]:
            assert parameter["schema"] and (parameter["in"] != "path" or parameter["required"])
    assert len(ids) == len(set(ids))


def test_every_described_operation_exists(api: ApiCaller) -> None:
    """Called with nothing, each answers its own success or its own refusal: never "no such call"."""
    for method, path, _ in operations_of(api.get("/openapi.json")):
        status, answer = api.call(method.upper(), path.replace("{", "").replace("}", ""), {"nonsense": 1}, nonsense=1)
        assert status in (200, 400, 404), (method, path, answer)
        assert status == 200 or answer["error"]["code"] not in ("InvalidUrl", "MethodNotAllowed"), (method, path)


def test_description_tells_the_parameters_and_result_of_each_tag(api: ApiCaller) -> None:
    schemas = api.get("/openapi.json")["components"]["schemas"]
    [job_id] = finished(api, "page.png")
    job = api.get(f"/jobs/{job_id}")
    assert set(schemas["ImageOCRParams"]["properties"]) == set(job["params"])
    assert set(schemas["ImageOCRResult"]["properties"]) == set(job["result"])
    assert set(schemas["JobDetails"]["properties"]) == set(job)


def test_answers_have_the_described_fields(api: ApiCaller) -> None:
    """Every list and detail, against its schema's names and required fields."""
    finished(api, "page.png", callback={"url": api.server.inbox("described")})
    document = api.get("/openapi.json")
    schemas = document["components"]["schemas"]
    for path in ("/jobs", "/queues", "/deliveries", "/targets", "/buckets", "/keys", "/server", "/stats"):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        check_shape(api.get(path), schema, schemas, path)


def check_shape(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> None:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        schema = next(one for one in schema["anyOf"] if (one.get("type") == "null") == (value is None))
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    if "type" in schema and schema["type"] != "null":
        assert isinstance(value, kinds[schema["type"]]), (where, value, schema)
    if "properties" in schema:
        assert set(value) == set(schema["properties"]) >= set(schema.get("required", ())), where
        for name, inner in schema["properties"].items():
            check_shape(value[name], inner, schemas, f"{where}.{name}")
    for item in value if schema.get("type") == "array" else ():
        check_shape(item, schema["items"], schemas, f"{where}[]")


def test_path_parts_are_quoted_texts(api: ApiCaller) -> None:
    assert api.refused("GET", f"/jobs/{quote('a b/c', safe='')}")[1] in ("JobNotFound", "InvalidUrl")

"""Batch jobs with the official Python SDK: each call, each kind of input, by job and by workflow."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError
from tests.support.waiting import until

from cloudfinite.testing import Server

pytestmark = pytest.mark.sdk
BUCKET = Server.bucket
HASH = {"Tag": "FileHashCode", "JobParam": {"FileHashCodeConfig": {"Type": "MD5"}}}


def put(client: CosS3Client, *keys: str, body: bytes = b"content") -> None:
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=key, Body=body)


def create(client: CosS3Client, source: dict[str, str], operation: dict[str, Any] | None = None, **more: str) -> Any:
    body = {"Name": "batch", "Type": "Job", "Input": source, "Operation": operation or HASH, **more}
    (detail,) = client.ci_create_inventory_trigger_jobs(Bucket=BUCKET, JobBody=body)["JobsDetail"]
    return detail


def find(client: CosS3Client, batch_id: str) -> Any:
    (detail,) = client.ci_get_inventory_trigger_jobs(Bucket=BUCKET, JobID=batch_id)["JobsDetail"]
    return detail


def ended(client: CosS3Client, batch_id: str) -> Any:
    def look() -> Any:
        detail = find(client, batch_id)
        return detail if detail["State"] in ("Success", "Failed", "Cancel") else None

    return until(look, f"the end of {batch_id}")


def counts(detail: Any) -> tuple[int, int, int]:
    progress = detail["Progress"]
    return tuple(int(progress[name]) for name in ("ObjectCount", "TriggeredCount", "SkippedCount"))  # type: ignore[return-value]


def inputs(client: CosS3Client, prefix: str) -> list[str]:
    """The inputs of the jobs there are below a prefix, each as often as it has a job."""
    found: list[str] = []
    token = ""
    while True:
        answer = client.ci_list_media_jobs(Bucket=BUCKET, Tag="FileHashCode", Size=100, NextToken=token)
        found += [detail["Input"]["Object"] for detail in answer.get("JobsDetail") or []]
        token = answer.get("NextToken") or ""
        if not token:
            return sorted(key for key in found if key.startswith(prefix))


def test_prefix_gives_a_job_to_each_object(client: CosS3Client) -> None:
    keys = [f"p1/{number:03d}" for number in range(130)]
    put(client, *keys, "p2/other")
    detail = create(client, {"Prefix": "p1/"})
    assert (detail["Code"], detail["Type"], detail["State"], detail["EndTime"]) == ("Success", "Job", "Submitted", "-")
    assert detail["JobId"][0] == "b" and detail["Input"] == {"Prefix": "p1/"}
    assert detail["Operation"] == {"Tag": "FileHashCode", "JobParam": {"FileHashCodeConfig": {"Type": "MD5"}}}
    end = ended(client, detail["JobId"])
    assert (end["State"], counts(end)) == ("Success", (130, 130, 0))
    assert end["StartTime"] != "-" and end["EndTime"] != "-"
    assert inputs(client, "p1/") == keys


def test_single_object(client: CosS3Client) -> None:
    put(client, "one/a", "one/ab")
    assert counts(ended(client, create(client, {"Object": "/one/a"})["JobId"])) == (1, 1, 0)
    assert inputs(client, "one/") == ["one/a"]


def test_url_file_with_urls_of_every_form(client: CosS3Client, server: Server) -> None:
    host = f"{BUCKET}.cos.{server.region}.myqcloud.com"
    lines = [f"https://{host}/urls/a%20b?sign=1", "", f"{server.url}/urls/c", "urls/d", "/urls/e\r",
             "https://other-1250000000.cos.ap-beijing.myqcloud.com/urls/f"]  # fmt: skip
    client.put_object(Bucket=BUCKET, Key="lists/urls.txt", Body="\n".join(lines).encode())
    end = ended(client, create(client, {"UrlFile": "lists/urls.txt"})["JobId"])
    assert (end["State"], counts(end)) == ("Success", (5, 4, 1))
    assert inputs(client, "urls/") == ["urls/a b", "urls/c", "urls/d", "urls/e"]


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:])]
)
def test_inventory_manifest(client: CosS3Client, pack: Callable[[bytes], bytes], request: Any) -> None:
    prefix = f"inv{request.node.callspec.indices['pack']}/"
    rows = [
        ("1250000000", BUCKET, f"{prefix}a%20b", "2026-01-05T10:00:00Z"),
        ("1250000000", BUCKET, f'{prefix}quoted"\n', "2026-01-05T10:00:00Z"),
        ("1250000000", "other-1250000000", f"{prefix}c", "2026-01-05T10:00:00Z"),
        ("1250000000", BUCKET, f"{prefix}old", "2025-01-05T10:00:00Z"),
    ]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    put(client, f"lists/{prefix}1.csv.gz", body=pack(text.getvalue().encode()))
    put(client, f"lists/{prefix}2.csv.gz", body=pack(f'"1","{BUCKET}","{prefix}z","2026-01-05T10:00:00Z"'.encode()))
    manifest = {
        "sourceBucket": BUCKET,
        "fileFormat": "CSV",
        "fileSchema": "Appid, Bucket, Key, LastModifiedDate",
        "files": [{"key": f"lists/{prefix}{number}.csv.gz"} for number in (1, 2)],
    }
    put(client, f"lists/{prefix}manifest.json", body=json.dumps(manifest).encode())
    interval = {"Start": "2026-01-01T00:00:00+0800", "End": "2026-02-01T00:00:00+0800"}
    end = ended(
        client,
        create(client, {"Manifest": f"lists/{prefix}manifest.json"}, {**HASH, "TimeInterval": interval})["JobId"],
    )
    # A key with a line break is none that an object can have here.
    assert (end["State"], counts(end)) == ("Success", (5, 2, 3))
    assert inputs(client, prefix) == [f"{prefix}a b", f"{prefix}z"]


def test_time_interval_leaves_out_what_was_stored_at_another_time(client: CosS3Client) -> None:
    put(client, "time/a")
    past = {"TimeInterval": {"Start": "2001-01-01T00:00:00+0800", "End": "2002-01-01T00:00:00+0800"}}
    for source in ({"Prefix": "time/"}, {"Object": "time/a"}, {"Object": "time/none"}):
        assert counts(ended(client, create(client, source, {**HASH, **past})["JobId"])) == (1, 0, 1) or source == {
            "Prefix": "time/"
        }
    since = {"TimeInterval": {"Start": "2001-01-01T00:00:00+0800"}}
    assert counts(ended(client, create(client, {"Prefix": "time/"}, {**HASH, **since})["JobId"])) == (1, 1, 0)


def test_job_has_what_the_batch_says_and_tells_its_end(client: CosS3Client, server: Server) -> None:
    put(client, "told/a")
    more = {"UserData": "ticket-7", "JobLevel": "2", "CallBack": server.inbox("batch"), "CallBackFormat": "JSON"}
    create(client, {"Prefix": "told/"}, {**HASH, **more})
    body = json.loads(server.wait_for_callbacks("batch", 1)[0].body)
    (detail,) = body["JobsDetail"]
    assert detail["Input"]["Object"] == "told/a"
    assert (detail["Operation"]["UserData"], detail["Operation"]["JobLevel"]) == ("ticket-7", 2)


def test_workflow_runs_on_each_object(client: CosS3Client) -> None:
    put(client, "flow/a", "flow/b")
    topology = {
        "Dependencies": {"Start": "FileHashCode_1", "FileHashCode_1": "End"},
        "Nodes": {
            "Start": {"Type": "Start", "Input": {"ObjectPrefix": "nothing/"}},
            "FileHashCode_1": {"Type": "FileHashCode", "Operation": HASH["JobParam"]},
        },
    }
    body = {"MediaWorkflow": {"Name": "hash", "State": "Paused", "Topology": topology}}
    created = client.ci_create_workflow(Bucket=BUCKET, Body=body)
    workflow_id = created["MediaWorkflow"]["WorkflowId"]
    job = {"Name": "flow", "Input": {"Prefix": "flow/"}, "Operation": {"WorkflowIds": workflow_id}}
    (detail,) = client.ci_create_inventory_trigger_jobs(Bucket=BUCKET, JobBody=job)["JobsDetail"]
    assert (detail["Type"], detail["Operation"]) == ("Workflow", {"WorkflowIds": workflow_id})
    assert counts(ended(client, detail["JobId"])) == (2, 2, 0)
    until(
        lambda: (
            [
                run["State"]
                for run in client.ci_list_workflowexecution(Bucket=BUCKET, WorkflowId=workflow_id)[
                    "WorkflowExecutionList"
                ]
            ]
            == ["Success"] * 2
        ),
        "the end of both runs",
    )
    listed = client.ci_list_inventory_trigger_jobs(Bucket=BUCKET, WorkflowId=workflow_id)["JobsDetail"]
    assert [one["JobId"] for one in listed] == [detail["JobId"]]


def test_output_of_each_job_has_its_own_key(client: CosS3Client) -> None:
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (40, 20)).save(picture, "PNG")
    put(client, "pics/a.png", "pics/b.png", body=picture.getvalue())
    output = {"Region": Server.region, "Bucket": BUCKET, "Object": "made/${InventoryTriggerJobId}/${InputName}.${Ext}"}
    rule = {"PicProcess": {"ProcessRule": "imageMogr2/thumbnail/20x/format/jpg"}}
    detail = create(client, {"Prefix": "pics/"}, {"Tag": "PicProcess", "JobParam": rule, "Output": output})
    for name in ("a", "b"):
        key = f"made/{detail['JobId']}/{name}.jpg"
        until(lambda: client.object_exists(Bucket=BUCKET, Key=key), key)  # noqa: B023 - called at once


@pytest.fixture
def paused(client: CosS3Client) -> Iterator[Callable[[str], None]]:
    """The file service's queue, paused; active again afterwards."""
    import qcloud_cos  # noqa: F401 - it has no call for this queue

    (queue,) = client.ci_get_media_queue(Bucket=BUCKET, UrlPath="/file_queue")["QueueList"]

    def set_state(state: str) -> None:
        request = {"Name": queue["Name"], "QueueID": queue["QueueId"], "State": state, "NotifyConfig": {"State": "Off"}}
        client.ci_update_media_queue(Bucket=BUCKET, QueueId=queue["QueueId"], Request=request, UrlPath="/file_queue/")

    set_state("Paused")
    yield set_state
    set_state("Active")


def test_paused_queue_holds_a_batch_back(client: CosS3Client, paused: Callable[[str], None]) -> None:
    put(client, "held/a")
    batch_id = create(client, {"Prefix": "held/"})["JobId"]
    detail = until(lambda: (found := find(client, batch_id))["Message"] and found, "why it waits")
    assert (detail["State"], counts(detail)) == ("Running", (0, 0, 0)) and "is paused" in detail["Message"]
    paused("Active")
    end = ended(client, batch_id)
    assert (end["State"], end["Message"], counts(end)) == ("Success", None, (1, 1, 0))


def test_cancelled_batch_makes_no_more_jobs(client: CosS3Client, paused: Callable[[str], None]) -> None:
    put(client, "cancelled/a")
    batch_id = create(client, {"Prefix": "cancelled/"})["JobId"]
    for _ in range(2):
        client.ci_delete_inventory_trigger_jobs(Bucket=BUCKET, JobId=batch_id)
    paused("Active")
    assert find(client, batch_id)["State"] == "Cancel"
    assert inputs(client, "cancelled/") == []


def test_list_filters_and_pages(client: CosS3Client) -> None:
    ids = [create(client, {"Object": "x"}, Name="paged")["JobId"] for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        answer = client.ci_list_inventory_trigger_jobs(Bucket=BUCKET, Type="Job", Name="paged", Size=2, NextToken=token)
        seen += [detail["JobId"] for detail in answer["JobsDetail"]]
        token = answer.get("NextToken") or ""
        if not token:
            break
    assert seen == ids[::-1]
    ended(client, ids[0])
    for wanted in ({"JobId": ids[0]}, {"States": "Success", "JobId": ids[0], "OrderByTime": "Asc"}):
        (found,) = client.ci_list_inventory_trigger_jobs(Bucket=BUCKET, Type="Job", **wanted)["JobsDetail"]
        assert found["JobId"] == ids[0]
    for wanted in ({"States": "Failed"}, {"StartCreationTime": "2099-01-01T00:00:00+0800"}):
        answer = client.ci_list_inventory_trigger_jobs(Bucket=BUCKET, Type="Job", Name="paged", **wanted)
        assert not answer.get("JobsDetail")


def test_unknown_batch_is_named(client: CosS3Client) -> None:
    answer = client.ci_get_inventory_trigger_jobs(Bucket=BUCKET, JobID="bnone")
    assert answer["NonExistJobIds"] == "bnone" and not answer.get("JobsDetail")


@pytest.mark.parametrize(
    ("source", "body", "told"),
    [
        ({"UrlFile": "lists/none.txt"}, b"", "'lists/none.txt' does not exist"),
        ({"Manifest": "lists/bad.json"}, b"{}", "fileSchema and files"),
        ({"Manifest": "lists/bad.json"}, b'{"fileSchema":"Bucket","files":[]}', "it must have the column Key"),
        ({"UrlFile": "lists/bad.txt"}, b"x" * 100_000, "more than 65536 bytes"),
        ({"UrlFile": "lists/bad.txt"}, b"\xff\xfe", "not UTF-8"),
    ],
)
def test_list_that_cannot_be_read_fails_the_batch(
    client: CosS3Client, source: dict[str, str], body: bytes, told: str
) -> None:
    if body:
        put(client, *source.values(), body=body)
    end = ended(client, create(client, source)["JobId"])
    assert end["State"] == "Failed" and end["Code"] != "Success" and told in end["Message"]


@pytest.mark.parametrize("cut", [10, -1])
def test_damaged_inventory_fails_the_batch(client: CosS3Client, cut: int) -> None:
    put(client, "lists/cut.csv.gz", body=gzip.compress(b"cut/a\ncut/b\n" * 50)[:cut])
    manifest = {"fileSchema": "Key", "files": [{"key": "lists/cut.csv.gz"}]}
    put(client, "lists/cut.json", body=json.dumps(manifest).encode())
    end = ended(client, create(client, {"Manifest": "lists/cut.json"})["JobId"])
    assert end["State"] == "Failed" and "cut off" in end["Message"]


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"Name": "no blanks here"}, 400, "Name is 'no blanks here'"),
        ({"Type": "Other"}, 400, "Workflow or Job"),
        ({"Input": {"Prefix": "a", "Object": "b"}}, 400, "Prefix and Object"),
        ({"Operation": {"Tag": "FileHashCode"}}, 400, "needs FileHashCodeConfig"),
        ({"Operation": {"Tag": "Transcode", "JobParam": {}}}, 501, "Transcode is not built"),
        ({"Operation": {**HASH, "QueueId": "pnone"}}, 404, "pnone"),
        ({"Operation": {**HASH, "JobLevel": "3"}}, 400, "JobLevel"),
        ({"Operation": {**HASH, "TimeInterval": {"Start": "yesterday"}}}, 400, "TimeInterval.Start"),
        ({"Operation": {**HASH, "TimeInterval": {"Start": "2026-02-01T00:00:00Z", "End": "2026-01-01T00:00:00Z"}}},
         400, "after its End"),
        ({"Type": "Workflow", "Operation": {"WorkflowIds": "wnone"}}, 404, "wnone"),
        ({"Type": "Workflow", "Operation": {}}, 400, "Operation"),
        ({"Operation": {"Tag": "PicProcess", "JobParam": {"PicProcess": {"ProcessRule": "imageMogr2/rotate/9"}}}},
         400, "Operation.Output"),
    ],
)  # fmt: skip
def test_batch_that_could_never_run_is_refused(
    client: CosS3Client, change: dict[str, Any], status: int, told: str
) -> None:
    body = {"Name": "bad", "Type": "Job", "Input": {"Prefix": "x"}, "Operation": HASH, **change}
    with pytest.raises(CosServiceError) as caught:
        client.ci_create_inventory_trigger_jobs(Bucket=BUCKET, JobBody=body)
    assert caught.value.get_status_code() == status and told in caught.value.get_error_msg()

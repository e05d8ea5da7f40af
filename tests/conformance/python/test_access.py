"""Several keys on one server, by the official Python SDK: each sees and does what its policy says, and no more."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError
from tests.conformance.python.conftest import client_of
from tests.conformance.python.test_jobs import error_of, submit, wait_until
from tests.support.api_caller import ApiCaller

from cloudfinite.testing import Server

pytestmark = pytest.mark.sdk

OURS, THEIRS = Server.bucket, "test-1234567890"
IN_AND_JOBS = ["cos:GetObject", "cos:HeadObject", "cos:PutObject", "cos:GetBucket", "ci:*"]
TEMPLATE = {"Tag": "ImageOCR", "ImageOCR": {"Type": "general"}}
DENIED = (403, "AccessDenied")


@pytest.fixture(scope="module")
def api(server: Server) -> ApiCaller:
    return ApiCaller(server)


def client_with(api: ApiCaller, **rule: Any) -> CosS3Client:
    """The SDK with a new key pair that one rule describes."""
    pair = api.post("/keys", {"policy": [rule]})
    return client_of(api.server, SecretId=pair["secret_id"], SecretKey=pair["secret_key"])


def temporary(api: ApiCaller, secret_id: str = Server.secret_id, lifetime_s: int = 600, **rule: Any) -> CosS3Client:
    body = {"secret_id": secret_id, "lifetime_s": lifetime_s, "policy": [rule]}
    made = api.post("/credentials", body)
    return client_of(api.server, SecretId=made["secret_id"], SecretKey=made["secret_key"], Token=made["token"])


@pytest.fixture(scope="module")
def ours(api: ApiCaller) -> CosS3Client:
    """Everything in our bucket."""
    return client_with(api, buckets=[OURS])


@pytest.fixture(scope="module")
def submitter(api: ApiCaller) -> CosS3Client:
    """Objects and jobs below `in/` of our bucket."""
    return client_with(api, buckets=[OURS], prefixes=["in/"], actions=IN_AND_JOBS)


@pytest.fixture(scope="module")
def their_job(client: CosS3Client) -> str:
    jobs = {"Tag": "ImageOCR", "Input": {"Object": "secret.png"}, "Operation": {"ImageOCR": {"Type": "general"}}}
    return str(client.ci_create_media_jobs(Bucket=THEIRS, Jobs=jobs, Lst={})["JobsDetail"][0]["JobId"])


# --- two buckets ---------------------------------------------------------------------------------------------------


def test_bucket_of_others_is_refused_as_one_that_does_not_exist(client: CosS3Client, ours: CosS3Client) -> None:
    client.put_object(Bucket=THEIRS, Key="secret.png", Body=b"secret")
    calls = [
        (ours.get_object, {"Key": "secret.png"}), (ours.put_object, {"Key": "k", "Body": b""}),
        (ours.delete_object, {"Key": "secret.png"}), (ours.list_objects, {}), (ours.delete_bucket, {}),
        (ours.create_multipart_upload, {"Key": "k"}), (ours.create_bucket, {}), (ours.get_bucket_cors, {}),
    ]  # fmt: skip
    for call, arguments in calls:
        theirs = error_of(call, Bucket=THEIRS, **arguments)
        nobodys = error_of(call, Bucket="nobodys-1250000000", **arguments)
        assert theirs[:2] == nobodys[:2] == DENIED, call
        assert theirs[2].replace(THEIRS, "") == nobodys[2].replace("nobodys-1250000000", "")
    assert client.get_object(Bucket=THEIRS, Key="secret.png")["Body"].get_raw_stream().read() == b"secret"


def test_lists_of_buckets_leave_out_others(client: CosS3Client, ours: CosS3Client) -> None:
    assert [one["Name"] for one in ours.list_buckets()["Buckets"]["Bucket"]] == [OURS]
    assert {OURS, THEIRS} <= {one["Name"] for one in client.list_buckets()["Buckets"]["Bucket"]}
    listed = ours.ci_get_ai_bucket()
    assert (listed["TotalCount"], listed["AiBucketList"]["Name"]) == ("1", OURS)


def test_jobs_of_others_do_not_exist(ours: CosS3Client, their_job: str) -> None:
    answer = ours.ci_get_media_jobs(Bucket=OURS, JobIDs=their_job)
    assert answer["NonExistJobIds"] == their_job and not answer.get("JobsDetail")
    listed = ours.ci_list_media_jobs(Bucket=OURS, Tag="ImageOCR", Size=100, States="All")
    assert their_job not in [one["JobId"] for one in listed.get("JobsDetail") or ()]
    assert error_of(ours.ci_cancel_jobs, Bucket=OURS, JobID=their_job)[:2] == (404, "JobNotFound")
    for call, arguments in (
        (ours.ci_get_media_jobs, {"JobIDs": their_job}),
        (ours.ci_list_media_jobs, {"Tag": "ImageOCR"}),
        (ours.ci_cancel_jobs, {"JobID": their_job}),
    ):
        assert error_of(call, Bucket=THEIRS, **arguments)[:2] == DENIED


def test_queues_of_others_do_not_exist(client: CosS3Client, ours: CosS3Client) -> None:
    (theirs,) = client.ci_get_ai_queue(Bucket=THEIRS)["QueueList"]
    queue_id = theirs["QueueId"]
    assert error_of(ours.ci_get_ai_queue, Bucket=THEIRS)[:2] == DENIED
    assert ours.ci_get_ai_queue(Bucket=OURS, QueueIds=queue_id)["NonExistPIDs"] == queue_id
    change = {"Name": "mine", "QueueID": queue_id, "State": "Paused", "NotifyConfig": {"State": "Off"}}
    refused = error_of(ours.ci_update_ai_queue, Bucket=OURS, QueueId=queue_id, Request=change)
    assert refused[:2] == (404, "QueueNotFound")
    jobs = {"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": {"ImageOCR": {}}, "QueueId": queue_id}
    assert error_of(ours.ci_create_media_jobs, Bucket=OURS, Jobs=jobs, Lst={})[:2] == (404, "QueueNotFound")
    assert client.ci_get_ai_queue(Bucket=THEIRS)["QueueList"] == [theirs]


def test_templates_of_others_do_not_exist(client: CosS3Client, ours: CosS3Client) -> None:
    made = client.ci_create_template(Bucket=THEIRS, Template={**TEMPLATE, "Name": "theirs"})["Template"]
    template_id = made["TemplateId"]
    assert error_of(ours.ci_get_template, Bucket=THEIRS, Ids=template_id)[:2] == DENIED
    assert not ours.ci_get_template(Bucket=OURS, Ids=template_id).get("TemplateList")
    for call, arguments in (
        (ours.ci_delete_template, {"TemplateId": template_id}),
        (ours.ci_update_template, {"TemplateId": template_id, "Template": {**TEMPLATE, "Name": "mine"}}),
    ):
        assert error_of(call, Bucket=OURS, **arguments)[:2] == (404, "TemplateNotFound")
    jobs = {"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": {"TemplateId": template_id}}
    assert error_of(ours.ci_create_media_jobs, Bucket=OURS, Jobs=jobs, Lst={})[:2] == (404, "TemplateNotFound")


def test_object_of_others_is_not_copied_over(client: CosS3Client, ours: CosS3Client) -> None:
    client.put_object(Bucket=THEIRS, Key="secret.png", Body=b"secret")
    for key in ("secret.png", "none.png"):
        source = {"Bucket": THEIRS, "Key": key, "Region": Server.region}
        assert error_of(ours.copy_object, Bucket=OURS, Key="stolen", CopySource=source)[:2] == DENIED
        upload_id = ours.create_multipart_upload(Bucket=OURS, Key="stolen")["UploadId"]
        refused = error_of(
            ours.upload_part_copy, Bucket=OURS, Key="stolen", UploadId=upload_id, PartNumber=1, CopySource=source
        )
        assert refused[:2] == DENIED


# --- one prefix ----------------------------------------------------------------------------------------------------


def test_job_reads_only_what_its_submitter_may_read(client: CosS3Client, submitter: CosS3Client) -> None:
    script = {"lines": [{"text": "Invoice", "box": [1, 2, 30, 20]}]}
    client.put_object(Bucket=OURS, Key="out/a.png", Body=json.dumps(script).encode())
    submitter.put_object(Bucket=OURS, Key="in/a.png", Body=json.dumps(script).encode())
    refused = error_of(submit, client=submitter, key="out/a.png")
    assert refused[:2] == DENIED and "out/a.png" in refused[2]
    assert error_of(submit, client=submitter, key="/out/a.png")[:2] == DENIED  # the same key on this wire
    detail = wait_until(submitter, submit(submitter, "in/a.png")["JobId"], "Success", "Failed")
    assert detail["Operation"]["Detection"]["TextDetections"]["DetectedText"] == "Invoice"


def test_job_with_a_url_belongs_to_the_whole_bucket(submitter: CosS3Client, client: CosS3Client) -> None:
    jobs = {"Tag": "ImageOCR", "Input": {"Url": "http://127.0.0.1:9/a.png"}, "Operation": {"ImageOCR": {}}}
    assert error_of(submitter.ci_create_media_jobs, Bucket=OURS, Jobs=jobs, Lst={})[:2] == DENIED
    assert client.ci_create_media_jobs(Bucket=OURS, Jobs=jobs, Lst={})["JobsDetail"][0]["State"] == "Submitted"


def test_jobs_on_other_objects_do_not_exist(client: CosS3Client, submitter: CosS3Client) -> None:
    other, own = submit(client, "out/none.png")["JobId"], submit(submitter, "in/none.png")["JobId"]
    answer = submitter.ci_get_media_jobs(Bucket=OURS, JobIDs=f"{other},{own}")
    assert ([one["JobId"] for one in answer["JobsDetail"]], answer["NonExistJobIds"]) == ([own], other)
    listed = submitter.ci_list_media_jobs(Bucket=OURS, Tag="ImageOCR", Size=100, States="All")["JobsDetail"]
    assert own in [one["JobId"] for one in listed]
    assert all(one["Input"]["Object"].startswith("in/") for one in listed)
    assert error_of(submitter.ci_cancel_jobs, Bucket=OURS, JobID=other)[:2] == (404, "JobNotFound")


def test_list_stays_below_the_prefix(client: CosS3Client, submitter: CosS3Client) -> None:
    for key in ("in/list/1", "inside", "out/1"):
        client.put_object(Bucket=OURS, Key=key, Body=b"")
    keys = [one["Key"] for one in submitter.list_objects(Bucket=OURS, Prefix="in/")["Contents"]]
    assert "in/list/1" in keys and all(key.startswith("in/") for key in keys)
    for prefix in ("", "in", "out/"):
        assert error_of(submitter.list_objects, Bucket=OURS, Prefix=prefix)[:2] == DENIED


def test_deleting_several_deletes_only_what_is_allowed(api: ApiCaller, client: CosS3Client) -> None:
    for key in ("in/d", "out/d"):
        client.put_object(Bucket=OURS, Key=key, Body=b"")
    deleter = client_with(api, buckets=[OURS], prefixes=["in/"], actions=["cos:DeleteObject"])
    answer = deleter.delete_objects(Bucket=OURS, Delete={"Object": [{"Key": "in/d"}, {"Key": "out/d"}]})
    assert [one["Key"] for one in answer["Deleted"]] == ["in/d"]
    assert [(one["Key"], one["Code"]) for one in answer["Error"]] == [("out/d", "AccessDenied")]
    assert client.object_exists(Bucket=OURS, Key="out/d") and not client.object_exists(Bucket=OURS, Key="in/d")


def test_synchronous_call_needs_to_read_its_object(api: ApiCaller, client: CosS3Client) -> None:
    client.put_object(Bucket=OURS, Key="in/sync.png", Body=json.dumps({"lines": []}).encode())
    reader = client_with(api, buckets=[OURS], actions=["read-only"])
    runner = client_with(api, buckets=[OURS], actions=["ci:ProcessObject"])
    both = client_with(api, buckets=[OURS], actions=["ci:ProcessObject", "cos:GetObject"])
    for refused in (reader, runner):
        assert error_of(refused.ci_ocr_process, Bucket=OURS, Key="in/sync.png")[:2] == DENIED
    assert both.ci_ocr_process(Bucket=OURS, Key="in/sync.png")["RequestId"]


def test_read_only_key_reads_all_and_changes_nothing(api: ApiCaller, client: CosS3Client) -> None:
    job_id = submit(client)["JobId"]
    client.put_object(Bucket=OURS, Key="read", Body=b"data")
    reader = client_with(api, actions=["read-only"])
    assert reader.get_object(Bucket=OURS, Key="read")["Body"].get_raw_stream().read() == b"data"
    assert reader.ci_get_media_jobs(Bucket=OURS, JobIDs=job_id)["JobsDetail"]
    assert reader.ci_get_ai_queue(Bucket=OURS)["QueueList"]
    for call, arguments in (
        (reader.put_object, {"Key": "k", "Body": b""}),
        (reader.delete_object, {"Key": "read"}),
        (reader.ci_cancel_jobs, {"JobID": job_id}),
        (reader.ci_delete_template, {"TemplateId": "t1"}),
    ):
        assert error_of(call, Bucket=OURS, **arguments)[:2] == DENIED


# --- temporary credentials -----------------------------------------------------------------------------------------


def test_temporary_credentials_serve_objects_and_jobs(api: ApiCaller) -> None:
    client = temporary(api, buckets=[OURS], prefixes=["in/"], actions=IN_AND_JOBS)
    client.put_object(Bucket=OURS, Key="in/t.png", Body=b"{}")
    job_id = submit(client, "in/t.png")["JobId"]
    assert client.ci_get_media_jobs(Bucket=OURS, JobIDs=job_id)["JobsDetail"][0]["JobId"] == job_id
    assert error_of(client.put_object, Bucket=OURS, Key="out/t.png", Body=b"")[:2] == DENIED
    assert error_of(submit, client=client, key="out/t.png")[:2] == DENIED


@pytest.mark.parametrize("place", ["signed", "query", "header", "nowhere"])
def test_presigned_url_of_temporary_credentials_goes_with_its_token(api: ApiCaller, place: str) -> None:
    made = api.post("/credentials", {"secret_id": Server.secret_id, "policy": [{"actions": ["cos:*Object"]}]})
    client = client_of(api.server, SecretId=made["secret_id"], SecretKey=made["secret_key"], Token=made["token"])
    client.put_object(Bucket=OURS, Key="in/p.bin", Body=b"data")
    token = {"x-cos-security-token": made["token"]}
    url = client.get_presigned_url(Method="GET", Bucket=OURS, Key="in/p.bin", Params=token if place == "signed" else {})
    url += f"&x-cos-security-token={made['token']}" if place == "query" else ""
    got = fetch(api.server, url, token if place == "header" else {})
    assert got == ((403, b"InvalidAccessKeyId") if place == "nowhere" else (200, b"data"))


def test_derived_credentials_cannot_do_more_than_their_key(api: ApiCaller) -> None:
    parent = api.post("/keys", {"policy": [{"buckets": [OURS], "actions": ["cos:GetObject"]}]})
    client = temporary(api, parent["secret_id"], buckets=["*"], actions=["*"])
    assert error_of(client.get_object, Bucket=OURS, Key="none")[:2] == (404, "NoSuchKey")
    assert error_of(client.put_object, Bucket=OURS, Key="k", Body=b"")[:2] == DENIED
    assert error_of(client.get_object, Bucket=THEIRS, Key="none")[:2] == DENIED


def test_expired_token_is_told_from_a_wrong_one(api: ApiCaller) -> None:
    client = temporary(api, lifetime_s=1, buckets=[OURS])
    ends_at = time.monotonic() + 10
    while True:
        assert time.monotonic() < ends_at
        try:
            client.list_objects(Bucket=OURS, MaxKeys=1)
        except CosServiceError as refused:
            assert (refused.get_status_code(), refused.get_error_code()) == (400, "ExpiredToken")
            break
    assert error_of(client.ci_get_ai_queue, Bucket=OURS)[1] == "ExpiredToken"


@pytest.mark.parametrize(("host", "code"), [("cos", "InvalidAccessKeyId"), ("ci", "SecretidNotExist")])
@pytest.mark.parametrize("end", ["disable", "remove"])
def test_disabled_or_removed_key_takes_its_credentials_with_it(api: ApiCaller, end: str, host: str, code: str) -> None:
    pair = api.post("/keys")
    clients = [
        client_of(api.server, SecretId=pair["secret_id"], SecretKey=pair["secret_key"]),
        temporary(api, pair["secret_id"]),
    ]
    path = f"/keys/{pair['secret_id']}"
    for client in clients:
        client.list_objects(Bucket=OURS, MaxKeys=1)
    assert (api.call("DELETE", path) if end == "remove" else api.call("PATCH", path, {"is_enabled": False}))[0] == 200
    for client in clients:
        refused = (
            error_of(client.list_objects, Bucket=OURS)
            if host == "cos"
            else error_of(client.ci_get_ai_queue, Bucket=OURS)
        )
        assert refused[1] == code


# --- anybody -------------------------------------------------------------------------------------------------------


def fetch(server: Server, url: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, bytes]:
    """What anybody gets: status, and the body or the error's code."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": server.url}))
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().partition(b"<Code>")[2].partition(b"</Code>")[0]


@pytest.fixture
def public_bucket(api: ApiCaller, client: CosS3Client) -> Iterator[str]:
    client.put_object(Bucket=THEIRS, Key="page.html", Body=b"<p>hello", ContentType="text/html")
    assert api.call("PATCH", f"/buckets/{THEIRS}", {"acl": "public-read"})[1]["acl"] == "public-read"
    yield f"http://{THEIRS}.cos.{Server.region}.myqcloud.com"
    api.call("PATCH", f"/buckets/{THEIRS}", {"acl": "private"})


def test_anybody_reads_objects_of_a_public_bucket_and_nothing_else(server: Server, public_bucket: str) -> None:
    assert fetch(server, f"{public_bucket}/page.html") == (200, b"<p>hello")
    assert fetch(server, f"{public_bucket}/page.html", method="HEAD") == (200, b"")
    assert fetch(server, f"{public_bucket}/page.html", {"Range": "bytes=0-2"}) == (206, b"<p>")
    assert fetch(server, f"{public_bucket}/none") == (404, b"NoSuchKey")
    for target, method in (
        ("/", "GET"), ("/page.html", "DELETE"), ("/new", "PUT"), ("/?acl", "GET"), ("/?uploads", "GET"),
        ("/page.html?uploads", "POST"), ("/page.html?ci-process=OCR", "GET"), ("/?delete", "POST"),
    ):  # fmt: skip
        assert fetch(server, public_bucket + target, method=method) == (403, b"AccessDenied"), target
    assert fetch(server, public_bucket.replace(".cos.", ".ci.") + "/ai_queue")[0] == 401


def test_private_bucket_says_nothing_to_anybody(server: Server, client: CosS3Client) -> None:
    client.put_object(Bucket=OURS, Key="page.html", Body=b"")
    for host in (OURS, "nobodys-1250000000"):
        for key in ("page.html", "none"):
            url = f"http://{host}.cos.{Server.region}.myqcloud.com/{key}"
            assert fetch(server, url) == (403, b"AccessDenied")


def test_sdk_sets_and_reads_the_acl(client: CosS3Client, api: ApiCaller) -> None:
    name = "open-1250000000"
    client.create_bucket(Bucket=name, ACL="public-read")
    grants = client.get_bucket_acl(Bucket=name)["AccessControlList"]["Grant"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL", "READ"]
    client.put_bucket_acl(Bucket=name, ACL="private")
    [grant] = client.get_bucket_acl(Bucket=name)["AccessControlList"]["Grant"]
    assert grant["Permission"] == "FULL_CONTROL"
    assert error_of(client.put_bucket_acl, Bucket=name, ACL="public-read-write")[:2] == (501, "NotImplemented")
    maker = client_with(api, buckets=[name], actions=["cos:PutBucket", "cos:DeleteBucket"])
    maker.delete_bucket(Bucket=name)
    assert error_of(maker.create_bucket, Bucket=name, ACL="public-read")[:2] == DENIED
    maker.create_bucket(Bucket=name)
    client.delete_bucket(Bucket=name)

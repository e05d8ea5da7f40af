"""Each call on jobs, queues and templates with the official Python SDK, and each kind of bad input."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_auth import CosS3Auth
from qcloud_cos.cos_exception import CosServiceError

from cloudfinite.testing import Server

pytestmark = pytest.mark.sdk
BUCKET = Server.bucket
OCR = {"ImageOCR": {"Type": "general"}}


def submit(
    client: CosS3Client, key: str = "a.png", operation: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    jobs = {"Tag": "ImageOCR", "Input": {"Object": key}, "Operation": operation or OCR, **more}
    return dict(client.ci_create_media_jobs(Bucket=BUCKET, Jobs=jobs, Lst={})["JobsDetail"][0])


def wait_until(client: CosS3Client, job_id: str, *states: str) -> dict[str, Any]:
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        (detail,) = client.ci_get_media_jobs(Bucket=BUCKET, JobIDs=job_id)["JobsDetail"]
        if detail["State"] in states:
            return dict(detail)
    raise AssertionError(f"{job_id} is still {detail['State']}")


def error_of(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(CosServiceError) as caught:
        call(**arguments)
    error = caught.value
    assert error.get_request_id() not in ("", "Unknown") and error.get_trace_id() not in ("", "Unknown")
    return error.get_status_code(), error.get_error_code(), error.get_error_msg()


@pytest.fixture
def paused_queue(client: CosS3Client) -> Any:
    """The AI queue, paused; active again afterwards."""
    (queue,) = client.ci_get_ai_queue(Bucket=BUCKET)["QueueList"]

    def set_state(state: str) -> None:
        request = {"Name": queue["Name"], "QueueID": queue["QueueId"], "State": state,
                   "NotifyConfig": {"State": "Off"}}  # fmt: skip
        client.ci_update_ai_queue(Bucket=BUCKET, QueueId=queue["QueueId"], Request=request)

    set_state("Paused")
    yield queue, set_state
    set_state("Active")


def test_submit_answers_the_documented_detail(client: CosS3Client) -> None:
    detail = submit(client, "scans/page-07.png", {**OCR, "UserData": "order=8123", "JobLevel": "1"})
    assert (detail["Code"], detail["State"], detail["StartTime"], detail["EndTime"]) == (
        "Success",
        "Submitted",
        "-",
        "-",
    )
    assert list(detail["Input"]) == ["BucketId", "Region", "Object"]
    assert detail["Operation"]["ImageOCR"] == {
        "EnableWordPolygon": "false", "IsPdf": "false", "IsWord": "false", "LanguageType": "zh", "Type": "general",
    }  # fmt: skip
    assert (detail["Operation"]["UserData"], detail["Operation"]["JobLevel"]) == ("order=8123", "1")
    assert detail["JobId"][0] == "a" and len(detail["JobId"]) == 33


def test_finished_job_carries_its_detection(client: CosS3Client) -> None:
    script = {"lines": [{"text": "Invoice", "box": [1, 2, 30, 20]}]}
    client.put_object(Bucket=BUCKET, Key="invoice.png", Body=json.dumps(script).encode())
    detail = wait_until(client, submit(client, "invoice.png")["JobId"], "Success", "Failed")
    assert detail["Operation"]["Detection"]["TextDetections"]["DetectedText"] == "Invoice"
    assert detail["EndTime"] != "-" and detail["Message"] is None


def test_several_ids_in_one_query_and_the_unknown_ones_named(client: CosS3Client) -> None:
    first, second = (submit(client)["JobId"] for _ in range(2))
    answer = client.ci_get_media_jobs(Bucket=BUCKET, JobIDs=f"{first},{second},aaaa")
    assert [detail["JobId"] for detail in answer["JobsDetail"]] == [first, second]
    assert answer["NonExistJobIds"] == "aaaa"


def test_another_buckets_job_does_not_exist(client: CosS3Client) -> None:
    job_id = submit(client)["JobId"]
    answer = client.ci_get_media_jobs(Bucket="test-1234567890", JobIDs=job_id)
    assert answer == {"NonExistJobIds": job_id, "JobsDetail": []} or answer.get("JobsDetail") in (None, [])


def test_list_pages_through_all_without_repeats(client: CosS3Client) -> None:
    wanted = {submit(client, "paged.png")["JobId"] for _ in range(7)}
    seen: list[str] = []
    token = ""
    while True:
        answer = client.ci_list_media_jobs(
            Bucket=BUCKET, Tag="ImageOCR", Size=3, NextToken=token, OrderByTime="Desc", States="All"
        )
        seen += [detail["JobId"] for detail in answer["JobsDetail"]]
        token = answer.get("NextToken") or ""
        if not token or wanted <= set(seen):
            break
    assert len(seen) == len(set(seen)) and wanted <= set(seen)


def test_list_filters_by_state_time_and_queue(client: CosS3Client) -> None:
    job_id = submit(client, "nowhere.png")["JobId"]
    detail = wait_until(client, job_id, "Failed")
    found = client.ci_list_media_jobs(
        Bucket=BUCKET, Tag="ImageOCR", States="Failed,Cancel", QueueId=detail["QueueId"],
        StartCreationTime=detail["CreationTime"], EndCreationTime=detail["CreationTime"], Size=100,
    )["JobsDetail"]  # fmt: skip
    assert job_id in {one["JobId"] for one in found}
    later = client.ci_list_media_jobs(
        Bucket=BUCKET, Tag="ImageOCR", StartCreationTime="2099-01-01T00:00:00+0800"
    )  # fmt: skip
    assert not later.get("JobsDetail")


def test_missing_object_ends_the_job_failed(client: CosS3Client) -> None:
    detail = wait_until(client, submit(client, "does/not/exist.png")["JobId"], "Failed", "Success")
    assert (detail["State"], detail["Code"]) == ("Failed", "ResourceNotFound")
    assert detail["Message"] == "the specified object does not exist"


def test_paused_queue_refuses_new_jobs(client: CosS3Client, paused_queue: Any) -> None:
    status, code, message = error_of(
        client.ci_create_media_jobs,
        Bucket=BUCKET,
        Jobs={"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": OCR},
        Lst={},
    )  # fmt: skip
    assert (status, code) == (403, "QueuePaused") and paused_queue[0]["QueueId"] in message


def test_queue_update_answers_and_keeps_the_setting(client: CosS3Client, server: Server) -> None:
    (queue,) = client.ci_get_ai_queue(Bucket=BUCKET, QueueIds="", State="All")["QueueList"]
    notify = {"State": "On", "Url": server.inbox("queue"), "Type": "Url", "Event": "TaskFinish,WorkflowFinish",
              "ResultFormat": "JSON"}  # fmt: skip
    request = {"Name": "queue-ai-process-1", "QueueID": queue["QueueId"], "State": "Active", "NotifyConfig": notify}
    answer = client.ci_update_ai_queue(Bucket=BUCKET, QueueId=queue["QueueId"], Request=request)
    (updated,) = answer["Queue"]
    assert updated["NotifyConfig"]["Url"] == server.inbox("queue") and updated["Category"] == "AIProcess"
    submit(client)
    callback = server.wait_for_callbacks("queue", 1)[0]
    assert json.loads(callback.body)["Response"]["EventName"] == "TaskFinish"
    quiet = submit(client, "quiet.png", CallBack="no")["JobId"]
    wait_until(client, quiet, "Failed")
    told = [json.loads(one.body)["Response"]["JobsDetail"][0]["JobId"] for one in server.callbacks("queue")]
    assert quiet not in told
    request["NotifyConfig"] = {**notify, "State": "Off"}
    client.ci_update_ai_queue(Bucket=BUCKET, QueueId=queue["QueueId"], Request=request)


def test_every_service_has_its_queue(client: CosS3Client) -> None:
    names = {
        "media": client.ci_get_media_queue(Bucket=BUCKET)["QueueList"][0]["Category"],
        "pic": client.ci_get_media_pic_queue(Bucket=BUCKET)["QueueList"][0]["Category"],
        "doc": client.ci_get_doc_queue(Bucket=BUCKET)["QueueList"][0]["Category"],
        "asr": client.ci_get_asr_queue(Bucket=BUCKET)["QueueList"][0]["Category"],
    }
    assert names == {"media": "Transcoding", "pic": "PicProcessing", "doc": "DocProcessing", "asr": "Speeching"}


def test_unknown_queue_ids_are_named(client: CosS3Client) -> None:
    assert client.ci_get_ai_queue(Bucket=BUCKET, QueueIds="pnone")["NonExistPIDs"] == "pnone"


def test_template_life(client: CosS3Client) -> None:
    body = {"Tag": "ImageOCR", "Name": "life", "ImageOCR": {"Type": "general", "IsPdf": "true", "PdfPageNumber": "2"}}
    created = client.ci_create_template(Bucket=BUCKET, Template=body)["Template"]
    template_id = created["TemplateId"]
    assert created["ImageOCR"]["PdfPageNumber"] == "2" and template_id.startswith("t1")
    updated = client.ci_update_template(
        Bucket=BUCKET, TemplateId=template_id, Template={**body, "Name": "life-2", "ImageOCR": {"Type": "fast"}}
    )["Template"]
    assert (updated["Name"], updated["ImageOCR"]["Type"]) == ("life-2", "fast")
    (listed,) = client.ci_get_template(Bucket=BUCKET, Ids=template_id)["TemplateList"]
    assert listed["Name"] == "life-2"
    detail = submit(client, operation={"TemplateId": template_id})
    assert detail["Operation"]["TemplateName"] == "life-2"
    assert client.ci_delete_template(Bucket=BUCKET, TemplateId=template_id)["TemplateId"] == template_id
    assert error_of(client.ci_delete_template, Bucket=BUCKET, TemplateId=template_id)[:2] == (404, "TemplateNotFound")


def test_template_names_are_unique_in_a_bucket(client: CosS3Client) -> None:
    body = {"Tag": "ImageOCR", "Name": "unique", "ImageOCR": {"Type": "general"}}
    client.ci_create_template(Bucket=BUCKET, Template=body)
    assert error_of(client.ci_create_template, Bucket=BUCKET, Template=body)[:2] == (403, "TemplateNameDuplicate")


def test_official_templates_are_listed_and_run(client: CosS3Client) -> None:
    official = client.ci_get_template(Bucket=BUCKET, Category="Official")["TemplateList"]
    assert all(one["TemplateId"].startswith("t0") and one["Category"] == "Official" for one in official)
    assert submit(client, operation={"TemplateId": official[0]["TemplateId"]})["Operation"]["TemplateName"]


def test_synchronous_ocr_answers_flat_and_without_placeholders(client: CosS3Client) -> None:
    script = {"lines": [{"text": "Hello", "box": [1, 2, 30, 20]}]}
    client.put_object(Bucket=BUCKET, Key="sync.png", Body=json.dumps(script).encode())
    answer = client.ci_ocr_process(Bucket=BUCKET, Key="sync.png")
    assert list(answer) == ["Angel", "Language", "PdfPageSize", "RequestId", "TextDetections"]
    assert "Words" not in answer["TextDetections"] and answer["TextDetections"]["DetectedText"] == "Hello"


def test_synchronous_ocr_of_a_missing_object_is_no_such_key(client: CosS3Client) -> None:
    assert error_of(client.ci_ocr_process, Bucket=BUCKET, Key="none.png")[:2] == (404, "NoSuchKey")


def test_cancel_ends_a_waiting_job_and_twice_is_harmless(
    client: CosS3Client, server: Server, paused_queue: Any
) -> None:
    _, set_state = paused_queue
    set_state("Active")
    waiting = [submit(client, "x.png", CallBack=server.inbox("cancelled"))["JobId"] for _ in range(12)]
    set_state("Paused")
    states = {
        one["JobId"]: one["State"]
        for one in client.ci_get_media_jobs(Bucket=BUCKET, JobIDs=",".join(waiting))["JobsDetail"]
    }
    held = [job_id for job_id, state in states.items() if state == "Pause"]
    for job_id in held * 2:
        client.ci_cancel_jobs(Bucket=BUCKET, JobID=job_id)
    after = client.ci_get_media_jobs(Bucket=BUCKET, JobIDs=",".join(waiting))["JobsDetail"]
    assert all(one["State"] == "Cancel" for one in after if one["JobId"] in held)


def test_cancel_of_an_ended_or_unknown_job_says_so(client: CosS3Client) -> None:
    job_id = submit(client, "gone.png")["JobId"]
    wait_until(client, job_id, "Failed")
    status, code, message = error_of(client.ci_cancel_jobs, Bucket=BUCKET, JobID=job_id)
    assert (status, code) == (400, "InvalidArgument") and "Failed" in message
    assert error_of(client.ci_cancel_jobs, Bucket=BUCKET, JobID="aaaa")[:2] == (404, "JobNotFound")


def test_file_hash_job_through_its_own_call(client: CosS3Client) -> None:
    client.put_object(Bucket=BUCKET, Key="hash.bin", Body=b"hello")
    answer = client.ci_create_file_hash_job(
        Bucket=BUCKET, InputObject="hash.bin", FileHashCodeConfig={"Type": "SHA256"}
    )
    job_id = answer["JobsDetail"]["JobId"]
    assert job_id[0] == "f"
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        (detail,) = client.ci_get_file_process_jobs(Bucket=BUCKET, JobIDs=job_id)["JobsDetail"]
        if detail["State"] == "Success":
            break
    result = detail["Operation"]["FileHashCodeResult"]
    assert result["SHA256"] == hashlib.sha256(b"hello").hexdigest() and result["FileSize"] == "5"


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "status", "code", "told"),
    [
        ({"Tag": "Nonsense", "Input": {"Object": "a"}, "Operation": OCR}, 400, "InvalidArgument", "Nonsense"),
        ({"Tag": "Transcode", "Input": {"Object": "a"}, "Operation": OCR}, 501, "NotImplemented", "docs/coverage.md"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}}, 400, "InvalidArgument", "Operation"),
        ({"Tag": "ImageOCR", "Operation": OCR}, 400, "InvalidArgument", "Input"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": {"TemplateId": "tnone"}}, 404,
         "TemplateNotFound", "tnone"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": OCR, "QueueId": "pnone"}, 404, "QueueNotFound",
         "pnone"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": {"ImageOCR": {"Type": "super"}}}, 400,
         "InvalidArgument", "general"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": {**OCR, "JobLevel": "7"}}, 400, "InvalidArgument",
         "from 0 to 2"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": OCR, "CallBack": "ftp://x/y"}, 400,
         "InvalidArgument", "http"),
        ({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": OCR, "CallBackType": "TDMQ"}, 400,
         "InvalidArgument", "Url"),
    ],
)  # fmt: skip
def test_bad_submission_is_refused_with_the_value_and_what_is_right(
    client: CosS3Client, jobs: dict[str, Any], status: int, code: str, told: str
) -> None:
    got = error_of(client.ci_create_media_jobs, Bucket=BUCKET, Jobs=jobs, Lst={})
    assert got[:2] == (status, code) and told in got[2]


def raw_submit(server: Server, client: CosS3Client, body: bytes, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """POST a body of any kind, signed by the SDK."""
    url = f"http://{BUCKET}.ci.ap-chongqing.myqcloud.com/jobs"
    auth = CosS3Auth(client.get_conf(), "jobs")
    answer = client.send_request(method="POST", url=url, data=body, auth=auth, headers=headers, ci_request=True)
    return answer.status_code, answer.content, dict(answer.headers)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "MissingContent"),
        (b"<Request><Tag>", "InvalidContent"),
        (b"{\"Request\": ", "InvalidContent"),
        (b"hello", "InvalidContent"),
        (b"<Other/>", "InvalidContent"),
        (b'<!DOCTYPE r [<!ENTITY a "x">]><Request><Tag>&a;</Tag></Request>', "InvalidContent"),
        (b"<Request>" + b"<a>" * 200 + b"</a>" * 200 + b"</Request>", "InvalidContent"),
        (b"<Request>\x00</Request>", "InvalidContent"),
    ],
)  # fmt: skip
def test_unreadable_body_is_refused(client: CosS3Client, server: Server, body: bytes, code: str) -> None:
    with pytest.raises(CosServiceError) as caught:
        raw_submit(server, client, body)
    assert (caught.value.get_status_code(), caught.value.get_error_code()) == (400, code)


def test_a_json_submission_is_taken_and_answered_in_xml(client: CosS3Client, server: Server) -> None:
    body = json.dumps({"Request": {"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": OCR}}).encode()
    status, answer, headers = raw_submit(server, client, body)
    assert status == 200 and answer.startswith(b"<Response>") and headers["Content-Type"] == "application/xml"


def test_a_json_answer_comes_only_when_asked_for(client: CosS3Client, server: Server) -> None:
    body = json.dumps({"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": OCR}).encode()
    _, answer, _ = raw_submit(server, client, body, Accept="application/json")
    assert json.loads(answer)["Response"]["JobsDetail"][0]["State"] == "Submitted"


def test_content_md5_that_does_not_fit_is_refused(client: CosS3Client, server: Server) -> None:
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(CosServiceError) as caught:
        raw_submit(server, client, b"<Request/>", **{"Content-MD5": wrong})
    assert caught.value.get_error_code() == "InvalidContent"


def test_wrong_and_unknown_keys_are_refused(server: Server) -> None:
    def with_key(secret_id: str, secret_key: str) -> CosS3Client:
        return CosS3Client(
            CosConfig(Region=server.region, SecretId=secret_id, SecretKey=secret_key, Scheme="http",
                      Proxies={"http": server.url})
        )  # fmt: skip

    forged = with_key(server.secret_id, "wrong")
    assert error_of(forged.ci_get_media_jobs, Bucket=BUCKET, JobIDs="a")[:2] == (403, "SignatureDoesNotMatch")
    unknown = with_key("AKIDnobody", "wrong")
    assert error_of(unknown.ci_get_media_jobs, Bucket=BUCKET, JobIDs="a")[:2] == (401, "SecretidNotExist")
    assert error_of(unknown.get_object, Bucket=BUCKET, Key="a")[:2] == (403, "InvalidAccessKeyId")


def test_an_unsigned_request_is_refused(server: Server) -> None:
    request = urllib.request.Request(f"{server.url}/jobs/a", headers={"Host": f"{BUCKET}.ci.ap-x.myqcloud.com"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 401 and b"MissingAuthorization" in caught.value.read()
    caught.value.close()

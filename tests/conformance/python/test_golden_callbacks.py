"""The bytes of each kind of callback, as received over HTTP, against the golden messages."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosS3Client

from cloudfinite.testing import Server

GOLDEN = Path(__file__).parents[2] / "golden" / "callbacks"
BUCKET = Server.bucket
POEM = {
    "language": "",
    "lines": [
        {"confidence": 0.98, "text": "Plow the fields at noon", "box": [40, 24, 176, 35]},
        {"confidence": 0.91, "text": "Sweat drips onto the soil beneath the crops", "box": [40, 81, 164, 30]},
        {"confidence": 0.97, "text": "Who knows the food on the plate", "box": [40, 129, 164, 33]},
        {"confidence": 0.99, "text": "Every grain is hard-earned", "box": [39, 181, 165, 34]},
    ],
}
HI = {"lines": [{"text": "Hi", "box": [10, 5, 30, 20]}]}
WORDS = {"Type": "general", "IsWord": "true"}
HANDWRITING = {"Type": "handwriting", "EnableWordPolygon": "true"}
HASH = {"FileHashCodeConfig": {"Type": "MD5"}}
pytestmark = pytest.mark.sdk


def submit(client: CosS3Client, server: Server, form: str, inbox: str, **body: Any) -> list[str]:
    jobs = {
        "Tag": "ImageOCR", **body, "CallBack": server.inbox(inbox), "CallBackFormat": form,
    }  # fmt: skip
    bucket = jobs.pop("Bucket", BUCKET)
    answer = client.ci_create_media_jobs(Bucket=bucket, Jobs=jobs, Lst={})
    return [detail["JobId"] for detail in answer["JobsDetail"]]


def with_placeholders(body: bytes, *, md5: str = "") -> str:
    text = body.decode()
    if md5:
        text = text.replace(md5, "{MD5}")
    for name, placeholder in (
        ("CreationTime", "TIME"), ("StartTime", "TIME"), ("EndTime", "TIME"), ("LastModified", "TIME"),
        ("JobId", "JOB"), ("QueueId", "QUEUE"), ("TemplateId", "TEMPLATE"),
    ):  # fmt: skip
        text = re.sub(f'(<{name}>|"{name}":")[^<"]+', rf"\g<1>{{{placeholder}}}", text)
    return text


CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "nothing-found": ("blank.png", {"Operation": {"ImageOCR": {"Type": "general"}}}, {}),
    "user-data": (
        "blank.png",
        {"Operation": {"ImageOCR": {"Type": "general"}, "UserData": "order=8123 <&>", "JobLevel": "2"}},
        {},
    ),
    "words": ("hi.png", {"Operation": {"ImageOCR": WORDS}}, HI),
    "handwriting": ("hi.png", {"Operation": {"ImageOCR": HANDWRITING}}, HI),
    "file-hash": ("two.bin", {"Tag": "FileHashCode", "Operation": HASH}, "hi"),
}


@pytest.mark.parametrize("form", ["XML", "JSON"])
@pytest.mark.parametrize("case", CASES)
def test_callback_has_the_golden_bytes(client: CosS3Client, server: Server, case: str, form: str) -> None:
    key, body, content = CASES[case]
    data = content if isinstance(content, str) else json.dumps(content)
    client.put_object(Bucket=BUCKET, Key=key, Body=data.encode())
    inbox = f"{case}-{form.lower()}"
    submit(client, server, form, inbox, Input={"Object": key}, **body)
    (received,) = server.wait_for_callbacks(inbox, 1)
    golden = (GOLDEN / f"{case}.{form.lower()}").read_text()
    assert with_placeholders(received.body, md5=hashlib.md5(data.encode()).hexdigest()) == golden
    assert received.headers["content-type"] == f"application/{form.lower()}"


@pytest.fixture(scope="module")
def template_id(client: CosS3Client) -> dict[str, str]:
    template = {"Tag": "ImageOCR", "Name": "ImageOCR-34", "ImageOCR": {"Type": "general"}}
    return {
        bucket: client.ci_create_template(Bucket=bucket, Template=template)["Template"]["TemplateId"]
        for bucket in (BUCKET, "test-1234567890")
    }


@pytest.mark.parametrize("form", ["XML", "JSON"])
def test_the_vendors_sample_comes_out_to_the_letter(
    client: CosS3Client, server: Server, template_id: dict[str, str], form: str
) -> None:
    bucket = "test-1234567890"
    poem = json.loads(json.dumps(POEM))
    if form == "JSON":  # the page's two samples differ in the first line
        poem["lines"][0]["text"] = "Toiling under the midday sun"
    client.put_object(Bucket=bucket, Key="pic/ocr1.png", Body=json.dumps(poem).encode())
    inbox = f"seed-{form.lower()}"
    submit(
        client, server, form, inbox, Bucket=bucket, Input={"Object": "pic/ocr1.png"},
        Operation={"TemplateId": template_id[bucket]},
    )  # fmt: skip
    (received,) = server.wait_for_callbacks(inbox, 1)
    assert with_placeholders(received.body) == (GOLDEN / f"seed.{form.lower()}").read_text()
    if form == "XML":
        assert len(received.body) == 2479


@pytest.mark.parametrize("form", ["XML", "JSON"])
def test_failed_job_still_sends_its_callback(
    client: CosS3Client, server: Server, template_id: dict[str, str], form: str
) -> None:
    inbox = f"failed-{form.lower()}"
    submit(
        client, server, form, inbox, Input={"Object": "missing.png"}, Operation={"TemplateId": template_id[BUCKET]}
    )  # fmt: skip
    (received,) = server.wait_for_callbacks(inbox, 1)
    assert with_placeholders(received.body) == (GOLDEN / f"failed.{form.lower()}").read_text()


@pytest.mark.parametrize("form", ["XML", "JSON"])
def test_several_jobs_of_one_request_call_back_each_on_its_own(client: CosS3Client, server: Server, form: str) -> None:
    client.put_object(Bucket=BUCKET, Key="two.bin", Body=b"{}")
    inbox = f"several-{form.lower()}"
    jobs = {
        "Input": {"Object": "two.bin"},
        "Operation": [
            {"Tag": "ImageOCR", "ImageOCR": {"Type": "general"}},
            {"Tag": "FileHashCode", **HASH},
        ],
        "CallBack": server.inbox(inbox),
        "CallBackFormat": form,
    }
    details = client.ci_create_media_jobs(Bucket=BUCKET, Jobs=jobs, Lst={"<Operation>": "<Operation>"})["JobsDetail"]
    received = server.wait_for_callbacks(inbox, 2)
    ids = {detail["JobId"] for detail in details}
    told = {re.search(r"JobId(?:>|\":\")(\w+)", callback.body.decode())[1] for callback in received}  # type: ignore[index]
    assert len(ids) == 2 and told == ids

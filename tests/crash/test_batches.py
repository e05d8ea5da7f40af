"""kill -9 inside a batch's page, and inside the end of a job that makes an object: all or nothing, nothing twice."""

from __future__ import annotations

import io
import urllib.error
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosClientError, CosServiceError
from tests.support.waiting import until

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash
BUCKET = Server.bucket
_LOST = (CosClientError, CosServiceError, OSError, urllib.error.URLError)
HASH = {"Tag": "FileHashCode", "JobParam": {"FileHashCodeConfig": {"Type": "MD5"}}}


def client_of(server: Server) -> CosS3Client:
    config = CosConfig(
        Region=server.region, SecretId=server.secret_id, SecretKey=server.secret_key, Scheme="http",
        Proxies={"http": server.url}, Timeout=5,
    )  # fmt: skip
    client = CosS3Client(config, retry=0)
    client._retry_exe_times = 1
    return client


def crashed(server: Server) -> bool:
    return server.process is not None and server.process.poll() is not None


# Statements behind the first job of the batch: three for each job, then the batch's row, then the COMMIT.
@pytest.mark.parametrize("point", [0, 150, 300, 301, 302, 500])
def test_batch_goes_on_behind_a_kill_and_doubles_no_job(tmp_path: Path, point: int) -> None:
    server = Server(data=tmp_path, ocr_engine="fixed", workers=1, lease_s=2)
    server.command, usual = ("-m", "tests.support.crashing", "INSERT INTO job", str(point)), server.command
    server.start()
    try:
        keys = [f"in/{number:03d}" for number in range(220)]
        client = client_of(server)
        # One put in place of 220: a job counts, whether or not its object is there.
        client.put_object(Bucket=BUCKET, Key="urls.txt", Body="\n".join(keys).encode())
        body = {"Name": "b", "Type": "Job", "Input": {"UrlFile": "urls.txt"}, "Operation": HASH}
        batch_id = client.ci_create_inventory_trigger_jobs(Bucket=BUCKET, JobBody=body)["JobsDetail"][0]["JobId"]
        until(lambda: crashed(server), "the kill")
        server.command = usual
        server.start()
        client = client_of(server)

        def state() -> Any:
            detail = client.ci_get_inventory_trigger_jobs(Bucket=BUCKET, JobID=batch_id)["JobsDetail"][0]
            return detail if detail["State"] == "Success" else None

        progress = until(state, "the end of the batch")["Progress"]
        assert (progress["TriggeredCount"], progress["SkippedCount"]) == ("220", "0")
        found = Counter(inputs(client))
        assert set(found) == set(keys) and set(found.values()) == {1}
    finally:
        server.kill()


def inputs(client: CosS3Client) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        answer = client.ci_list_media_jobs(Bucket=BUCKET, Tag="FileHashCode", Size=100, NextToken=token)
        found += [detail["Input"]["Object"] for detail in answer["JobsDetail"]]
        token = answer.get("NextToken") or ""
        if not token:
            return found


@pytest.mark.parametrize("point", range(5))
def test_object_of_a_job_comes_with_its_success_and_not_before(tmp_path: Path, point: int) -> None:
    server = Server(data=tmp_path, ocr_engine="fixed", workers=1, lease_s=2)
    server.command, usual = ("-m", "tests.support.crashing", "UPDATE job SET state = ?", str(point)), server.command
    server.start()
    try:
        picture = io.BytesIO()
        Image.new("RGB", (40, 20)).save(picture, "PNG")
        client = client_of(server)
        client.put_object(Bucket=BUCKET, Key="in.png", Body=picture.getvalue())
        job = {
            "Tag": "PicProcess",
            "Input": {"Object": "in.png"},
            "Operation": {
                "PicProcess": {"ProcessRule": "imageMogr2/rotate/90"},
                "Output": {"Region": server.region, "Bucket": BUCKET, "Object": "out.png"},
            },
        }
        (detail,) = client.ci_create_media_pic_jobs(Bucket=BUCKET, Jobs=job, Lst={})["JobsDetail"]
        until(lambda: crashed(server), "the kill")
        server.command = usual
        server.start()
        client = client_of(server)

        def asked() -> Any:
            return client.ci_get_media_pic_jobs(Bucket=BUCKET, JobIDs=detail["JobId"])["JobsDetail"][0]

        def end() -> Any:
            # What is seen first must be true of what is asked next: both come in one commit.
            found = asked()
            if found["State"] == "Success":
                return client.head_object(Bucket=BUCKET, Key="out.png"), found
            with suppress(*_LOST):
                head = client.head_object(Bucket=BUCKET, Key="out.png")
                found = asked()
                assert found["State"] == "Success", "the object is there before its job's success"
                return head, found
            return None

        head, found = until(end, "the end of the job")
        assert found["Operation"]["PicProcessResult"]["ProcessResult"]["Etag"] == head["ETag"]
    finally:
        server.kill()

"""kill -9 between each pair of statements of submit, run, finish and deliver: all or nothing, and nothing lost."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosClientError, CosServiceError

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash
BUCKET = Server.bucket
# Each gap from the first statement of the transaction on, through what follows it.
POINTS = {
    "INSERT INTO job": 8,  # submit: job, ready, counter, COMMIT; then the claim begins
    "SELECT min(queue_id)": 12,  # claim
    "UPDATE job SET state = ?": 12,
    "INSERT INTO attempt": 8,  # deliver
}


def client_of(server: Server) -> CosS3Client:
    config = CosConfig(
        Region=server.region, SecretId=server.secret_id, SecretKey=server.secret_key, Scheme="http",
        Proxies={"http": server.url}, Timeout=5,
    )  # fmt: skip
    client = CosS3Client(config, retry=0)
    client._retry_exe_times = 1  # no second submit behind our back
    return client


@pytest.fixture(scope="module")
def receiver() -> Iterator[Server]:
    """A second server whose inbox outlives the crashes."""
    with Server(ocr_engine="fixed", workers=0) as running:
        yield running


GAPS = [(pattern, point) for pattern, count in POINTS.items() for point in range(count)]


@pytest.mark.parametrize(("pattern", "point"), GAPS)
def test_a_kill_between_two_statements_loses_nothing(
    tmp_path: Path, receiver: Server, pattern: str, point: int
) -> None:
    inbox = f"{''.join(filter(str.isalnum, pattern))}-{point}"
    crashing = ("-m", "tests.support.crashing", pattern, str(point))
    server = Server(data=tmp_path, ocr_engine="fixed", workers=1, retry_schedule_s=[0, 0.1, 0.1, 0.1, 0.1], lease_s=2)
    server.command, usual = crashing, server.command
    server.start()
    answered: str | None = None
    with suppress(CosClientError, CosServiceError, OSError, urllib.error.URLError):
        client_of(server).put_object(Bucket=BUCKET, Key="a.png", Body=b"x")
        answer = client_of(server).ci_create_media_jobs(
            Bucket=BUCKET,
            Jobs={
                "Tag": "ImageOCR", "Input": {"Object": "a.png"}, "Operation": {"ImageOCR": {"Type": "general"}},
                "CallBack": receiver.inbox(inbox),
            },
            Lst={},
        )  # fmt: skip
        answered = answer["JobsDetail"][0]["JobId"]
    assert server.process is not None
    server.process.wait(timeout=20)
    server.command = usual
    with server:
        jobs = client_of(server).ci_list_media_jobs(Bucket=BUCKET, Tag="ImageOCR", Size=100).get("JobsDetail") or []
        assert len(jobs) <= 1
        if answered is not None:
            assert [job["JobId"] for job in jobs] == [answered]
        if jobs:
            received = receiver.wait_for_callbacks(inbox, 1)
            assert {job["JobId"].encode() in one.body for one in received for job in jobs} == {True}
            assert len({one.headers["webhook-id"] for one in received}) == 1
            assert len({one.body for one in received}) == 1
            wait_for_state(server, jobs[0]["JobId"], "Success")


def wait_for_state(server: Server, job_id: str, state: str) -> None:
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        (detail,) = client_of(server).ci_get_media_jobs(Bucket=BUCKET, JobIDs=job_id)["JobsDetail"]
        if detail["State"] == state:
            return
    raise AssertionError(f"{job_id} is {detail['State']}, not {state}")

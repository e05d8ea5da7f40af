"""The Node SDK, unchanged, with temporary credentials: it sends their token its own way on each kind of host."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.nodejs.conftest import NodeSdk, SdkError, node_sdk
from tests.conformance.nodejs.test_node_sdk import call, ocr_job
from tests.support.api_caller import ApiCaller

from cloudfinite.testing import Server

pytestmark = [pytest.mark.sdk, pytest.mark.xdist_group("node")]

ACTIONS = ["cos:*Object", "cos:*Upload*", "cos:ListParts", "cos:GetBucket", "ci:*MediaJob*"]


@pytest.fixture
async def limited(server: Server, node_modules: Path) -> AsyncIterator[NodeSdk]:
    """Objects and jobs below `in/`, for ten minutes."""
    rule = {"buckets": [server.bucket], "prefixes": ["in/"], "actions": ACTIONS}
    body = {"secret_id": server.secret_id, "lifetime_s": 600, "policy": [rule]}
    made = await asyncio.to_thread(ApiCaller(server).post, "/credentials", body)
    keys = {"SecretId": made["secret_id"], "SecretKey": made["secret_key"], "SecurityToken": made["token"]}
    async with node_sdk(server, node_modules, **keys) as sdk:
        yield sdk


async def code_of(answer: Any) -> str:
    with pytest.raises(SdkError) as caught:
        await answer
    return str(caught.value.error["code"])


async def test_objects_below_the_prefix_are_put_and_got(limited: NodeSdk) -> None:
    await limited("putObject", Key="in/a.bin", Body=b"data")
    assert (await limited("getObject", Key="in/a.bin"))["Body"] == b"data"
    assert [one["Key"] for one in (await limited("getBucket", Prefix="in/a"))["Contents"]] == ["in/a.bin"]
    assert await code_of(limited("putObject", Key="out/a.bin", Body=b"data")) == "AccessDenied"
    assert await code_of(limited("getBucket")) == "AccessDenied"
    assert await code_of(limited("deleteBucket")) == "AccessDenied"


async def test_file_is_uploaded_in_parts(limited: NodeSdk, tmp_path: Path) -> None:
    data = os.urandom((2 << 20) + 5)
    (tmp_path / "big.bin").write_bytes(data)
    await limited("sliceUploadFile", Key="in/big.bin", FilePath=str(tmp_path / "big.bin"), SliceSize=1 << 20)
    assert (await limited("getObject", Key="in/big.bin"))["Body"] == data


async def test_url_carries_the_token(limited: NodeSdk, server: Server) -> None:
    await limited("putObject", Key="in/url.bin", Body=b"data")
    url = await limited("getObjectUrl", Key="in/url.bin", Sign=True)

    def fetch() -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": server.url}))
        with opener.open(url, timeout=30) as answer:
            return bytes(answer.read())

    assert "x-cos-security-token=" in url
    assert await asyncio.to_thread(fetch) == b"data"


async def test_jobs_run_on_what_may_be_read(limited: NodeSdk, server: Server) -> None:
    await limited("putObject", Key="in/page.png", Body=b"{}")
    submitted = await call(limited, "POST", "jobs", ocr_job("in/page.png", server.inbox("limited")))
    job_id = submitted["JobsDetail"]["JobId"]
    await asyncio.to_thread(server.wait_for_callbacks, "limited", 1)
    assert (await call(limited, "GET", f"jobs/{job_id}"))["JobsDetail"]["State"] == "Success"
    assert await code_of(call(limited, "POST", "jobs", ocr_job("out/page.png", "no"))) == "AccessDenied"
    assert await code_of(call(limited, "GET", "ai_queue")) == "AccessDenied"

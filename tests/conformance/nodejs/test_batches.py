"""Batch jobs and persistent picture processing with the Node SDK's free request."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from PIL import Image
from tests.conformance.nodejs.conftest import NodeSdk, SdkError
from tests.conformance.nodejs.test_node_sdk import call

from cloudfinite.testing import Server

pytestmark = [pytest.mark.sdk, pytest.mark.xdist_group("node")]


def batch(prefix: str, url: str) -> str:
    return (
        f"<Request><Name>node-batch</Name><Type>Job</Type><Input><Prefix>{prefix}</Prefix></Input><Operation>"
        "<Tag>FileHashCode</Tag><JobParam><FileHashCodeConfig><Type>MD5</Type></FileHashCodeConfig></JobParam>"
        f"<CallBack>{url}</CallBack></Operation></Request>"
    )


def detail_of(answer: dict[str, Any]) -> dict[str, Any]:
    detail: dict[str, Any] = answer["JobsDetail"]
    return detail


async def test_batch_makes_a_job_of_each_object_and_is_found_listed_and_deleted(cos: NodeSdk, server: Server) -> None:
    for number in range(3):
        await cos("putObject", Key=f"node-batch/{number}.bin", Body=b"x")
    created = detail_of(
        await call(cos, "POST", "inventorytriggerjob", batch("node-batch/", server.inbox("node-batch")))
    )
    await asyncio.to_thread(server.wait_for_callbacks, "node-batch", 3)
    path = f"inventorytriggerjob/{created['JobId']}"
    found = detail_of(await call(cos, "GET", path))
    assert (found["Name"], found["Progress"]["TriggeredCount"]) == ("node-batch", "3")
    listed = await call(cos, "GET", "inventorytriggerjob", Query={"type": "Job"})
    assert created["JobId"] in str(listed)
    with pytest.raises(SdkError) as caught:
        await call(cos, "PUT", path, Action="cancel")
    assert "Success" in caught.value.error["message"]
    await call(cos, "DELETE", path)
    assert created["JobId"] not in str(await call(cos, "GET", "inventorytriggerjob", Query={"type": "Job"}))


async def test_picture_is_processed_and_stored(cos: NodeSdk, server: Server) -> None:
    data = io.BytesIO()
    Image.new("RGB", (40, 20), "white").save(data, "PNG")
    await cos("putObject", Key="node-pic/a.png", Body=data.getvalue())
    job = (
        "<Request><Tag>PicProcess</Tag><Input><Object>node-pic/a.png</Object></Input><Operation><PicProcess>"
        "<ProcessRule>imageMogr2/rotate/90</ProcessRule></PicProcess><Output>"
        f"<Region>{server.region}</Region><Bucket>{server.bucket}</Bucket><Object>node-pic/turned.png</Object></Output>"
        f"</Operation><CallBack>{server.inbox('node-pic')}</CallBack></Request>"
    )
    await call(cos, "POST", "pic_jobs", job)
    (callback,) = await asyncio.to_thread(server.wait_for_callbacks, "node-pic", 1)
    assert b"<State>Success</State>" in callback.body
    assert (await cos("headObject", Key="node-pic/turned.png"))["statusCode"] == 200

"""Workflows and their runs with the Node SDK's free request, as its recorded calls make them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.conformance.nodejs.conftest import NodeSdk, SdkError
from tests.conformance.nodejs.test_node_sdk import call

from cloudfinite.testing import Server

pytestmark = [pytest.mark.sdk, pytest.mark.xdist_group("node")]

HI = {"lines": [{"text": "Hi", "box": [10, 5, 30, 20]}]}


def workflow(prefix: str, url: str, name: str = "node-wf", state: str = "Active") -> str:
    return (
        f"<Request><MediaWorkflow><Name>{name}</Name><State>{state}</State><Topology><Dependencies>"
        "<Start>ImageOCR_1</Start><ImageOCR_1>End</ImageOCR_1></Dependencies><Nodes><Start><Type>Start</Type><Input>"
        f"<ObjectPrefix>{prefix}</ObjectPrefix><NotifyConfig><State>On</State><Type>Url</Type><Url>{url}</Url>"
        "<Event>TaskFinish,WorkflowFinish</Event></NotifyConfig><ExtFilter><State>On</State><Image>true</Image>"
        "</ExtFilter></Input></Start><ImageOCR_1><Type>ImageOCR</Type><Operation><ImageOCR><Type>general</Type>"
        "</ImageOCR></Operation></ImageOCR_1></Nodes></Topology></MediaWorkflow></Request>"
    )


async def make(cos: NodeSdk, server: Server, inbox: str, **how: str) -> str:
    answer = await call(cos, "POST", "workflow", workflow(f"{inbox}/", server.inbox(inbox), **how))
    return str(answer["MediaWorkflow"]["WorkflowId"])


async def test_workflow_is_made_changed_found_and_deleted(cos: NodeSdk, server: Server) -> None:
    workflow_id = await make(cos, server, "node-made", state="Paused")
    path = f"workflow/{workflow_id}"
    changed = await call(cos, "PUT", path, workflow("new/", server.inbox("x"), name="node-new", state="Paused"))
    assert changed["MediaWorkflow"]["Name"] == "node-new"
    for action, state in (("active", "Active"), ("paused", "Paused")):
        switched = await call(cos, "PUT", path, Action=action)
        assert switched["MediaWorkflow"]["State"] == state
    listed = await call(cos, "GET", "workflow", Query={"ids": workflow_id})
    assert listed["MediaWorkflowList"]["Topology"]["Dependencies"] == {"Start": "ImageOCR_1", "ImageOCR_1": "End"}
    deleted = await call(cos, "DELETE", path)
    assert deleted["WorkflowId"] == workflow_id
    assert (await call(cos, "GET", "workflow", Query={"ids": workflow_id}))["NonExistIDs"] == workflow_id


async def test_active_workflow_is_not_deleted(cos: NodeSdk, server: Server) -> None:
    workflow_id = await make(cos, server, "node-active")
    with pytest.raises(SdkError) as caught:
        await call(cos, "DELETE", f"workflow/{workflow_id}")
    assert (caught.value.error["statusCode"], caught.value.error["code"]) == (400, "InvalidArgument")
    assert "is Active; pause it first" in caught.value.error["message"]


async def test_object_by_hand_runs_through_the_workflow(cos: NodeSdk, server: Server) -> None:
    workflow_id = await make(cos, server, "node-hand", state="Paused")
    await cos("putObject", Key="node-hand/中 a.png", Body=json.dumps(HI).encode())
    query = {"workflowId": workflow_id, "object": "node-hand/中 a.png"}
    run_id = (await call(cos, "POST", "triggerworkflow", Query=query))["InstanceId"]
    await asyncio.to_thread(server.wait_for_callbacks, "node-hand", 2)
    run = (await call(cos, "GET", f"workflowexecution/{run_id}"))["WorkflowExecution"]
    assert (run["State"], run["Object"], run["Tasks"]["State"]) == ("Success", "node-hand/中 a.png", "Success")
    listed = await call(cos, "GET", "workflowexecution", Query={"workflowId": workflow_id})
    assert listed["WorkflowExecutionList"]["RunId"] == run_id
    with pytest.raises(SdkError) as caught:
        await call(cos, "PUT", f"workflowexecution/{run_id}", Action="cancel")
    assert "is Success; only a running one can be cancelled" in caught.value.error["message"]


async def test_upload_runs_through_the_workflow(cos: NodeSdk, server: Server) -> None:
    await make(cos, server, "node-upload")
    await cos("putObject", Key="node-upload/a.png", Body=json.dumps(HI).encode(), **{"x-cos-meta-team": "blue"})
    await cos("putObject", Key="node-upload/a.txt", Body=b"no picture")
    received = await asyncio.to_thread(server.wait_for_callbacks, "node-upload", 2)
    bodies: list[Any] = [one.body for one in received]
    assert all(b"<Key>x-cos-meta-team</Key><Value>blue</Value>" in body for body in bodies)
    assert {b"TaskFinish" in body for body in bodies} == {True, False}

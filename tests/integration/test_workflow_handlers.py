"""The calls on workflows over sockets, on a real store: JSON bodies and answers, and what a limited key may do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from tests.edge_harness import BUCKET, CI_HOST, SECRET_ID, FixedKeys, Harness, Reply, running_edge
from tests.support.workflow_bodies import workflow_body

from cloudfinite.adapters.addresses import parse_url
from cloudfinite.domain.access import EVERYTHING, Action, Grant, Policy, Rule
from cloudfinite.domain.objects import Bucket, StoredObject
from cloudfinite.errors import NoSuchKey
from cloudfinite.operations import operations
from cloudfinite.ports import Store
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.run_control import RunControl
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web.workflows import ExecutionHandlers, WorkflowHandlers

REGION = "ap-chongqing"
CHAIN = {"Start": "PicProcess_1", "PicProcess_1": "ImageOCR_1", "ImageOCR_1": "End"}
BODY = workflow_body(CHAIN, BUCKET, REGION)
Send = Callable[..., Awaitable[Reply]]
Serve = Callable[..., AbstractAsyncContextManager[Send]]


async def no_object(bucket: str, key: str) -> StoredObject:
    raise NoSuchKey


@pytest.fixture
async def serve(store: Store) -> Serve:
    """A server of these calls alone, for a key that may do what is given."""
    await store.run(lambda tx: tx.buckets.ensure(Bucket(BUCKET, REGION, tx.now)))
    service = WorkflowService(store, operations(), QueueLimits(), parse_url)
    control = RunControl(store, no_object, operations(), QueueLimits(), lambda progress: None, lambda job: None)
    workflows, executions = WorkflowHandlers(service, operations()), ExecutionHandlers(control, operations())
    answers = {f"workflows.{name}": getattr(workflows, name) for name in ("create", "update", "list", "delete")}
    answers |= {f"executions.{name}": getattr(executions, name) for name in ("trigger", "describe", "list", "cancel")}

    @asynccontextmanager
    async def serving(*rules: Rule) -> AsyncIterator[Send]:
        policy = Policy(rules) if rules else EVERYTHING
        async with running_edge(answers=answers, keys=FixedKeys(grants={SECRET_ID: Grant((policy,))})) as edge:
            yield _sender(edge)

    return serving


def _sender(edge: Harness) -> Send:
    async def send(method: str, target: str, body: str = "", **headers: str) -> Reply:
        return await edge.call(method, target, host=CI_HOST, body=body.encode(), headers=headers)

    return send


def only(*actions: Action, prefixes: tuple[str, ...] = ("",), buckets: tuple[str, ...] = ("*",)) -> Rule:
    return Rule(buckets, prefixes, tuple(action.wire for action in actions))


def value(reply: Reply, name: str) -> str:
    assert reply.status == 200, reply.body
    found = re.search(rf"<{name}>([^<]*)</{name}>", reply.body.decode())
    assert found is not None, reply.body
    return found[1]


async def test_json_body_and_answer_are_the_same_tree(serve: Serve) -> None:
    topology = {
        "Dependencies": {"Start": "FileHashCode_1", "FileHashCode_1": "End"},
        "Nodes": {
            "Start": {"Type": "Start", "Input": {"ObjectPrefix": ""}},
            "FileHashCode_1": {"Type": "FileHashCode", "Operation": {"FileHashCodeConfig": {"Type": "MD5"}}},
        },
    }
    body = {"Request": {"MediaWorkflow": {"Name": "工作流-1", "Topology": topology}}}
    async with serve() as send:
        reply = await send("POST", "/workflow", json.dumps(body), Accept="application/json")
        made = json.loads(reply.body)["Response"]["MediaWorkflow"]
        assert (made["Name"], made["State"], made["Topology"]) == ("工作流-1", "Paused", topology)
        listed = json.loads((await send("GET", "/workflow?ids=w1", Accept="application/json")).body)
        assert listed["Response"]["NonExistIDs"] == ["w1"]


async def test_run_of_a_missing_object_is_accepted_and_cancelled(serve: Serve) -> None:
    async with serve() as send:
        workflow_id = value(await send("POST", "/workflow", BODY), "WorkflowId")
        run_id = value(
            await send("POST", f"/triggerworkflow?workflowId={workflow_id}&object=%2Fin%2Fa+b"), "InstanceId"
        )
        described = await send("GET", f"/workflowexecution/{run_id}")
        assert (value(described, "Object"), b"NotifyConfig" in described.body) == ("in/a b", False)
        for _ in range(2):  # again is harmless
            reply = await send("PUT", f"/workflowexecution/{run_id}?cancel")
            assert (reply.status, reply.body) == (200, b"")
        listed = await send("GET", f"/workflowexecution?workflowId={workflow_id}&states=Cancel")
        assert value(listed, "RunId") == run_id


@pytest.mark.parametrize(
    ("rules", "denied"),
    [
        ((only(Action.CREATE_WORKFLOW),), "cos:GetObject in/"),
        ((only(Action.CREATE_WORKFLOW), only(Action.GET_OBJECT, prefixes=("in/",))), "cos:PutObject out/PicProcess_1/"),
        ((only(Action.CREATE_WORKFLOW, Action.GET_OBJECT), only(Action.PUT_OBJECT, prefixes=("out/",))), ""),
    ],
)
async def test_workflow_reads_and_writes_only_what_its_maker_may(
    serve: Serve, rules: tuple[Rule, ...], denied: str
) -> None:
    async with serve(*rules) as send:
        reply = await send("POST", "/workflow", BODY)
        assert reply.status == (403 if denied else 200)
        assert denied.encode() in reply.body


async def test_key_with_a_prefix_sees_and_starts_runs_of_its_objects_alone(serve: Serve) -> None:
    async with serve() as send:
        workflow_id = value(await send("POST", "/workflow", BODY), "WorkflowId")
        trigger = f"/triggerworkflow?workflowId={workflow_id}&object="
        theirs = value(await send("POST", trigger + "b/1"), "InstanceId")
    reading = (Action.DESCRIBE_EXECUTION, Action.DESCRIBE_EXECUTIONS)
    mine = only(Action.TRIGGER_WORKFLOW, Action.GET_OBJECT, Action.CANCEL_EXECUTION, *reading, prefixes=("a/",))
    async with serve(mine) as send:
        assert (await send("POST", trigger + "b/2")).code == "AccessDenied"
        run_id = value(await send("POST", trigger + "a/1"), "InstanceId")
        listed = (await send("GET", f"/workflowexecution?workflowId={workflow_id}")).body.decode()
        assert re.findall("<RunId>([^<]+)", listed) == [run_id]
        assert (await send("GET", f"/workflowexecution/{theirs}")).code == "ExecutionNotFound"
        assert (await send("PUT", f"/workflowexecution/{theirs}")).code == "ExecutionNotFound"
        assert (await send("PUT", f"/workflowexecution/{run_id}")).status == 200

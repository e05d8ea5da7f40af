"""The JSON API's workflows and executions, over sockets, on a running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosConfig, CosS3Client
from tests.support import steady_operations
from tests.support.api_caller import ApiCaller
from tests.support.waiting import until

from cloudfinite.testing import Server

HASH = {"FileHashCodeConfig": {"Type": "MD5"}}


@pytest.fixture(scope="module")
def api() -> Iterator[ApiCaller]:
    with Server(workers=1, operation_modules=[steady_operations.MODULE], retry_schedule_s=[0]) as server:
        caller = ApiCaller(server)
        caller.put("a.bin")
        yield caller


def client_of(api: ApiCaller) -> CosS3Client:
    server = api.server
    return CosS3Client(
        CosConfig(
            Region=server.region, SecretId=server.secret_id, SecretKey=server.secret_key, Scheme="http",
            Proxies={"http": server.url},
        )
    )  # fmt: skip


def make(api: ApiCaller, name: str, *steps: tuple[str, dict[str, Any]], **start: Any) -> str:
    """A paused workflow of steps beside one another."""
    names = [f"{kind}_{number}" for number, (kind, _) in enumerate(steps)]
    nodes = {name: {"Type": kind, "Operation": body} for name, (kind, body) in zip(names, steps, strict=True)}
    topology = {
        "Dependencies": {"Start": ",".join(names), **dict.fromkeys(names, "End")},
        "Nodes": {"Start": {"Type": "Start", "Input": {"ObjectPrefix": "in/", **start}}, **nodes},
    }
    body = {"MediaWorkflow": {"Name": name, "Topology": topology}}
    return str(client_of(api).ci_create_workflow(Bucket=Server.bucket, Body=body)["MediaWorkflow"]["WorkflowId"])


def run(api: ApiCaller, workflow_id: str, key: str = "a.bin") -> str:
    answer = client_of(api).ci_trigger_workflow(Bucket=Server.bucket, WorkflowId=workflow_id, Key=key)
    return str(answer["InstanceId"])


def wait_for_run(api: ApiCaller, run_id: str, state: str) -> Any:
    until(lambda: api.get(f"/executions/{run_id}")["state"] == state, f"{run_id} is {state}")
    return api.get(f"/executions/{run_id}")


def test_workflow_is_shown_with_steps_and_graph(api: ApiCaller) -> None:
    notify = {"Url": api.server.inbox("x"), "Event": "WorkflowFinish", "ResultFormat": "JSON"}
    workflow_id = make(api, "shown", ("FileHashCode", HASH), NotifyConfig=notify)
    shown = api.get(f"/workflows/{workflow_id}")
    assert (shown["name"], shown["state"], shown["prefix"]) == ("shown", "Paused", "in/")
    assert [(step["name"], step["tag"], step["after"]) for step in shown["steps"]] == [
        ("FileHashCode_0", "FileHashCode", [])
    ]
    assert (shown["notify"]["events"], shown["notify"]["format"]) == (["WorkflowFinish"], "JSON")
    assert shown["topology"].startswith("<Topology><Dependencies><Start>FileHashCode_0</Start>")


def test_workflows_are_listed_page_by_page(api: ApiCaller) -> None:
    made = [make(api, f"paged-{number}", ("FileHashCode", HASH)) for number in range(3)]
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = api.get("/workflows", bucket=Server.bucket, name="paged", size=2, after=after)
        found += [one["id"] for one in page["items"]]
        after = page["next"]
    assert found == made[::-1]


def test_run_is_shown_with_each_step_and_its_deliveries(api: ApiCaller) -> None:
    notify = {"Url": api.server.inbox("told"), "Event": "WorkflowFinish"}
    workflow_id = make(api, "told", ("FileHashCode", HASH), NotifyConfig=notify)
    run_id = run(api, workflow_id)
    api.server.wait_for_callbacks("told", 1)
    shown = wait_for_run(api, run_id, "Success")
    [step] = shown["steps"]
    assert (step["state"], step["code"]) == ("Success", "") and step["started_at"] <= step["ended_at"]
    assert api.get(f"/jobs/{step['job_id']}")["state"] == "Success"
    assert [(one["event"], one["url"]) for one in shown["deliveries"]] == [("WorkflowFinish", notify["Url"])]


def test_runs_are_listed_by_state_and_object(api: ApiCaller) -> None:
    workflow_id = make(api, "listed", ("FileHashCode", HASH))
    good, bad = run(api, workflow_id), run(api, workflow_id, "gone.bin")
    wait_for_run(api, good, "Success")
    wait_for_run(api, bad, "Failed")
    assert [one["id"] for one in api.get("/executions", workflow=workflow_id)["items"]] == [bad, good]
    assert [one["id"] for one in api.get("/executions", workflow=workflow_id, state="Failed")["items"]] == [bad]
    assert [one["id"] for one in api.get("/executions", workflow=workflow_id, object="a.bin")["items"]] == [good]
    page = api.get("/executions", workflow=workflow_id, size=1)
    following = api.get("/executions", workflow=workflow_id, size=1, after=page["next"])
    assert [one["id"] for one in following["items"]] == [good] and following["next"] is None


def test_cancelled_run_ends_and_its_waiting_steps_with_it(api: ApiCaller, tmp_path: Path) -> None:
    held = ("Held", {"Params": {"File": str(tmp_path / "held")}})
    workflow_id = make(api, "cancelled", held, ("FileHashCode", HASH))
    run_id = run(api, workflow_id)
    until(lambda: steady_operations.lines(tmp_path / "held"), "the step runs")  # in the only child: the other waits
    cancelled = api.post(f"/executions/{run_id}/cancel")
    assert cancelled["state"] == "Cancel"
    assert api.post(f"/executions/{run_id}/cancel")["state"] == "Cancel"

    def states() -> dict[str, str]:
        return {step["name"]: step["state"] for step in api.get(f"/executions/{run_id}")["steps"]}

    # The other step may have been claimed ahead of its turn: it is given back, and cancelled then.
    until(lambda: states() == {"Held_0": "Running", "FileHashCode_1": "Cancel"}, "the waiting step is cancelled")
    (tmp_path / "held.go").touch()
    until(lambda: api.get(f"/executions/{run_id}")["steps"][0]["state"] == "Success", "the running step ends")
    assert api.get(f"/executions/{run_id}")["state"] == "Cancel"


def test_ended_run_cannot_be_cancelled(api: ApiCaller) -> None:
    run_id = run(api, make(api, "ended", ("FileHashCode", HASH)))
    wait_for_run(api, run_id, "Success")
    status, code, message = api.refused("POST", f"/executions/{run_id}/cancel")
    assert (status, code) == (400, "InvalidArgument") and "is Success; only a running one" in message


def test_unknown_ones_are_not_found(api: ApiCaller) -> None:
    assert api.refused("GET", "/workflows/w1")[:2] == (404, "WorkflowNotFound")
    assert api.refused("GET", "/executions/i1")[:2] == (404, "ExecutionNotFound")
    assert api.refused("GET", "/executions") == (400, "InvalidArgument", "the parameter workflow is missing")

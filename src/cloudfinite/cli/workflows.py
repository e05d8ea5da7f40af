"""Commands on workflows and their runs: list both, show or cancel a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import Limit, Since, Until, with_server
from cloudfinite.cli.output import Output, local_time, seconds_between

_WORKFLOWS = ("ID", "STATE", "NAME", "BUCKET", "STARTS WITH", "CHANGED")
_RUNS = ("ID", "STATE", "OBJECT", "STARTED BY", "CREATED", "TOOK")
_STEPS = ("STEP", "STATE", "AFTER", "JOB", "RAN", "CODE")


@with_server
def list_workflows(
    client: Client,
    out: Output,
    bucket: Annotated[str, typer.Option(help="Only of this bucket")] = "",
    name: Annotated[str, typer.Option(help="Only with this in its name")] = "",
    limit: Limit = 50,
) -> None:
    """List workflows, newest first."""
    answer = client.pages("/workflows", {"bucket": bucket, "name": name}, limit)
    rows = [
        (one["id"], one["state"], one["name"], one["bucket"], one["prefix"], local_time(one["updated_at"]))
        for one in answer["items"]
    ]
    out.show(answer, lambda: out.table(_WORKFLOWS, rows, empty="no workflows match"))


@with_server
def list_runs(
    client: Client,
    out: Output,
    workflow_id: Annotated[str, typer.Argument(metavar="WORKFLOW")],
    state: Annotated[
        list[str] | None, typer.Option(help="Only in this state; may be repeated: Running, Success, Failed, Cancel")
    ] = None,
    object_key: Annotated[str, typer.Option("--object", help="Only on this object")] = "",
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
) -> None:
    """List a workflow's runs, newest first."""
    wanted = {"workflow": workflow_id, "state": ",".join(state or []), "object": object_key, "from": since, "to": until}
    answer = client.pages("/executions", {name: value for name, value in wanted.items() if value}, limit)
    rows = [
        (
            run["id"],
            run["state"],
            run["object"],
            run["batch_id"] or run["event"] or "hand",
            local_time(run["created_at"]),
            seconds_between(run["created_at"], run["ended_at"]),
        )
        for run in answer["items"]
    ]
    out.show(answer, lambda: out.table(_RUNS, rows, empty="no runs match"))


@with_server
def show_run(
    client: Client,
    out: Output,
    run_id: Annotated[str, typer.Argument(metavar="ID")],
    is_cancelled: Annotated[bool, typer.Option("--cancel", help="End it: nothing follows the steps that run")] = False,
) -> None:
    """Show a run with its steps; cancel it when asked to."""
    if is_cancelled:
        client.call("POST", f"/executions/{part(run_id)}/cancel")
    run = client.call("GET", f"/executions/{part(run_id)}")
    out.show(run, lambda: _print_run(out, run))


def _print_run(out: Output, run: Mapping[str, Any]) -> None:
    out.facts(
        {
            "id": run["id"],
            "state": run["state"],
            "workflow": f"{run['workflow_name']} ({run['workflow_id']})",
            "bucket": run["bucket"],
            "object": run["object"],
            "started by": run["batch_id"] or run["event"] or "hand",
            "created": local_time(run["created_at"]),
            "took": seconds_between(run["created_at"], run["ended_at"]),
        }
    )
    rows = [
        (
            step["name"],
            step["state"] or "not started",
            ", ".join(step["after"]),
            step["job_id"] or "",
            seconds_between(step["started_at"], step["ended_at"]),
            step["code"],
        )
        for step in run["steps"]
    ]
    out.table(_STEPS, rows, empty="no steps")
    for delivery in run["deliveries"]:
        out.line(f"callback {delivery['id']} {delivery['state']} after {delivery['attempts']} attempts")

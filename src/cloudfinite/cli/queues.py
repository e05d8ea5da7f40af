"""Commands on queues: list, show, pause, resume, set limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import Limit, with_server
from cloudfinite.cli.output import Output

_COLUMNS = ("ID", "BUCKET", "NAME", "STATE", "WAITING", "RUNNING", "MAX CONCURRENT", "MAX SIZE")


@with_server
def list_queues(
    client: Client,
    out: Output,
    bucket: Annotated[str, typer.Option(help="Only of this bucket")] = "",
    limit: Limit = 50,
) -> None:
    """List queues with their load and limits."""
    answer = client.pages("/queues", {"bucket": bucket}, limit)
    out.show(answer, lambda: _print(out, answer["items"]))


@with_server
def change_queue(
    client: Client,
    out: Output,
    queue_id: Annotated[str, typer.Argument(metavar="ID")],
    is_paused: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Refuse and start no jobs, or go on", show_default=False)
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=0, help="Jobs that run at once, over all machines")] = None,
    max_size: Annotated[int | None, typer.Option(min=0, help="Jobs that may wait")] = None,
    name: Annotated[str | None, typer.Option(help="Another name")] = None,
) -> None:
    """Show a queue; change what is given."""
    state = None if is_paused is None else "Paused" if is_paused else "Active"
    given = {"state": state, "max_concurrent": max_concurrent, "max_size": max_size, "name": name}
    change = {key: value for key, value in given.items() if value is not None}
    method, body = ("PATCH", change) if change else ("GET", None)
    queue = client.call(method, f"/queues/{part(queue_id)}", body=body)
    out.show(queue, lambda: _print(out, [queue]))


def _print(out: Output, queues: Sequence[Mapping[str, Any]]) -> None:
    names = ("id", "bucket", "name", "state", "waiting", "running", "max_concurrent", "max_size")
    rows = [[queue[name] for name in names] for queue in queues]
    out.table(_COLUMNS, rows, empty="no queues yet; one comes with its first job")

"""Commands on jobs: submit, list, show, cancel, run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import Limit, Since, Until, with_server
from cloudfinite.cli.output import Output, local_time, seconds_between

Bucket = Annotated[str, typer.Option(help="Only of this bucket")]
Tag = Annotated[str, typer.Option(help="Only of this tag, such as ImageOCR")]
States = Annotated[
    list[str] | None, typer.Option(help="Only in this state; may be repeated: Submitted, Running, Success, Failed …")
]
QueueId = Annotated[str, typer.Option(help="Only of this queue id")]
Key = Annotated[str, typer.Option("--object", help="Only with this input; needs --bucket")]

_COLUMNS = ("ID", "STATE", "TAG", "INPUT", "CREATED", "RAN", "CODE")


@with_server
def submit(
    client: Client,
    out: Output,
    bucket: Annotated[str, typer.Argument(help="Name with its number")],
    keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="Objects of the bucket, or http(s) URLs")],
    tag: Annotated[str, typer.Option(help="What to do with them")] = "ImageOCR",
    template: Annotated[str, typer.Option(help="Template id, in place of --param")] = "",
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter; may be repeated")] = None,
    callback: Annotated[str, typer.Option(metavar="URL", help="Where to tell the end")] = "",
    format: Annotated[str, typer.Option(metavar="XML|JSON", help="Form of the callback")] = "",
    level: Annotated[int, typer.Option(min=0, max=2, help="Higher runs earlier")] = 0,
    queue: Annotated[str, typer.Option(help="Queue id, in place of the default one")] = "",
    output: Annotated[
        str, typer.Option(metavar="KEY", help="Where the made object goes, as in out/${InputName}.${Ext}")
    ] = "",
) -> None:
    """Submit a job for each key."""
    is_url = ("http://", "https://")
    body = {
        "bucket": bucket,
        "objects": [key for key in keys if not key.startswith(is_url)],
        "urls": [key for key in keys if key.startswith(is_url)],
        "tag": tag,
        "params": _params(param or []),
        "template_id": template,
        "queue_id": queue,
        "level": level,
        "callback": {"url": callback or None, "format": format or None},
        "output": {"object": output} if output else None,
    }
    answer = client.call("POST", "/jobs", body=body)
    _print_jobs(out, answer)


def _params(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is no NAME=VALUE", param_hint="--param")
    return dict(pair.split("=", 1) for pair in pairs)


@with_server
def list_jobs(
    client: Client,
    out: Output,
    bucket: Bucket = "",
    tag: Tag = "",
    state: States = None,
    queue: QueueId = "",
    object_key: Key = "",
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
) -> None:
    """List jobs, newest first."""
    wanted = _filter(bucket, tag, queue, object_key, since, until)
    answer = client.pages("/jobs", {**wanted, "state": ",".join(state or [])}, limit)
    _print_jobs(out, answer)


def _filter(bucket: str, tag: str, queue: str, key: str, since: str | None, until: str | None) -> dict[str, Any]:
    wanted = {"bucket": bucket, "tag": tag, "queue": queue, "object": key, "from": since, "to": until}
    return {name: value for name, value in wanted.items() if value}


def _print_jobs(out: Output, answer: Mapping[str, Any]) -> None:
    rows = [
        (
            job["id"],
            job["state"],
            job["tag"],
            job["object"] or job["url"],
            local_time(job["created_at"]),
            seconds_between(job["started_at"], job["ended_at"]),
            job["code"],
        )
        for job in answer["items"]
    ]
    out.show(answer, lambda: out.table(_COLUMNS, rows, empty="no jobs match"))


@with_server
def show_job(client: Client, out: Output, job_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show a job: its state, parameters, result and callbacks."""
    job = client.call("GET", f"/jobs/{part(job_id)}")
    out.show(job, lambda: _print_job(out, job))


def _print_job(out: Output, job: Mapping[str, Any]) -> None:
    out.facts(
        {
            "id": job["id"],
            "state": job["state"],
            "code": job["code"],
            "message": job["message"],
            "tag": job["tag"],
            "bucket": job["bucket"],
            "input": job["object"] or job["url"],
            "queue": job["queue_id"],
            "level": job["level"],
            "template": job["template_id"],
            "parameters": _pairs(job["params"]),
            "user data": job["user_data"],
            "callback": job["callback"]["url"],
            "created": local_time(job["created_at"]),
            "waited": seconds_between(job["created_at"], job["started_at"]),
            "ran": seconds_between(job["started_at"], job["ended_at"]),
            "attempts": job["attempts"],
        }
    )
    for delivery in job["deliveries"]:
        out.line(f"callback {delivery['id']} {delivery['state']} after {delivery['attempts']} attempts")
    for line in (job["result"] or {}).get("lines", ()):
        out.line(f"  {line['text']}")
    if job["result"] is not None and "lines" not in job["result"]:
        out.line(f"result: {_pairs(job['result'])}")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if value not in (None, ""))


@with_server
def cancel(client: Client, out: Output, job_ids: Annotated[list[str], typer.Argument(metavar="ID…")]) -> None:
    """Cancel waiting and running jobs; no callback is sent."""
    jobs = [client.call("POST", f"/jobs/{part(job_id)}/cancel") for job_id in job_ids]
    _print_jobs(out, {"items": jobs})


@with_server
def rerun(
    client: Client,
    out: Output,
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Or name what must match")] = None,
    bucket: Bucket = "",
    tag: Tag = "",
    state: Annotated[
        list[str] | None, typer.Option(help="Only in this final state; may be repeated; Failed unless told")
    ] = None,
    queue: QueueId = "",
    object_key: Key = "",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Run at most so many again")] = 100_000,
) -> None:
    """Run ended jobs again: those of the ids, or all that match."""
    wanted = _filter(bucket, tag, queue, object_key, since, until)
    is_filtered = bool(wanted or state)
    if bool(job_ids) == is_filtered:
        raise typer.BadParameter("give ids, or what must match, such as --state Failed --since 1d")
    if job_ids:
        items = [client.call("POST", f"/jobs/{part(job_id)}/rerun") for job_id in job_ids]
    else:
        items = _rerun_matching(client, {**wanted, **({"state": state} if state else {})}, limit)
    rows = [(item["job_id"], item["original_id"]) for item in items]
    answer = {"items": items, "count": len(items)}
    out.show(answer, lambda: out.table(("NEW ID", "ORIGINAL"), rows, empty="no jobs match"))


def _rerun_matching(client: Client, wanted: Mapping[str, Any], limit: int) -> list[dict[str, str]]:
    items: list[dict[str, str]] = []
    following: str | None = ""
    while following is not None and len(items) < limit:
        size = min(500, limit - len(items))
        page = client.call("POST", "/jobs/rerun", body={**wanted, "after": following, "size": size})
        items += page["items"]
        following = page["next"]
    return items

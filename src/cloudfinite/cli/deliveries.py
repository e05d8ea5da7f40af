"""Commands on callbacks: deliveries and the targets they go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import Limit, Since, with_server
from cloudfinite.cli.output import Output, local_time

_DELIVERY_COLUMNS = ("ID", "STATE", "ATTEMPTS", "JOB", "URL", "CREATED", "NEXT")
_TARGET_COLUMNS = ("URL", "STATE", "RATE", "FAILURES IN ROW", "LAST SUCCESS", "REASON")
_ATTEMPT_COLUMNS = ("NO", "AT", "OUTCOME", "TOOK", "MESSAGE")

_DAY_S = 86_400
Overlap = Annotated[int, typer.Option(min=0, help="For how long what signed before signs too [s]")]


@with_server
def list_deliveries(
    client: Client,
    out: Output,
    job: Annotated[str, typer.Option(help="Only of this job id")] = "",
    url: Annotated[str, typer.Option(help="Only to this URL")] = "",
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only in this state; may be repeated: waiting, delivered, failed, refused, cancelled"),
    ] = None,
    since: Since = None,
    limit: Limit = 50,
) -> None:
    """List deliveries, newest first."""
    query = {"job": job, "url": url, "state": ",".join(state or []), "from": since}
    answer = client.pages("/deliveries", query, limit)
    out.show(answer, lambda: _print_deliveries(out, answer["items"]))


def _print_deliveries(out: Output, deliveries: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            one["id"],
            one["state"],
            one["attempts"],
            one["job_id"],
            one["url"],
            local_time(one["created_at"]),
            local_time(one["next_at"]),
        )
        for one in deliveries
    ]
    out.table(_DELIVERY_COLUMNS, rows, empty="no deliveries match")


@with_server
def show_delivery(client: Client, out: Output, delivery_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show a delivery: its attempts and its body."""
    delivery = client.call("GET", f"/deliveries/{part(delivery_id)}")
    out.show(delivery, lambda: _print_delivery(out, delivery))


def _print_delivery(out: Output, delivery: Mapping[str, Any]) -> None:
    _print_deliveries(out, [delivery])
    rows = [
        (one["number"], local_time(one["started_at"]), one["outcome"], f"{one['total_s']:.3f} s", one["message"])
        for one in delivery["tries"]
    ]
    out.table(_ATTEMPT_COLUMNS, rows, empty="no attempts yet")
    out.line(delivery["body"])


@with_server
def replay(
    client: Client,
    out: Output,
    delivery_ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Or --url and --since")] = None,
    url: Annotated[str, typer.Option(help="All that failed or was refused at this target")] = "",
    since: Since = None,
) -> None:
    """Send deliveries again now: the same ids, the same bytes."""
    if bool(delivery_ids) == bool(url) or bool(url) != bool(since):
        raise typer.BadParameter("give ids, or --url URL with --since TIME")
    if url:
        answer = client.call("POST", "/deliveries/replay", body={"url": url, "since": since})
        out.say(answer, f"{answer['count']} deliveries are sent again")
        return
    deliveries = [client.call("POST", f"/deliveries/{part(one)}/replay") for one in delivery_ids or []]
    out.show({"items": deliveries}, lambda: _print_deliveries(out, deliveries))


@with_server
def list_targets(client: Client, out: Output, limit: Limit = 50) -> None:
    """List the URLs that callbacks go to."""
    answer = client.pages("/targets", {}, limit)
    out.show(answer, lambda: _print_targets(out, answer["items"]))


def _print_targets(out: Output, targets: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            one["url"],
            one["state"],
            f"{one['rate_per_s']:g}/s" if one["rate_per_s"] else "",
            one["failures_in_row"],
            local_time(one["last_success_at"]),
            one["paused_reason"],
        )
        for one in targets
    ]
    out.table(_TARGET_COLUMNS, rows, empty="nothing was sent anywhere yet")


@with_server
def change_target(
    client: Client,
    out: Output,
    url: Annotated[str, typer.Argument()],
    is_paused: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Send nothing, or all that waits", show_default=False)
    ] = None,
    rotate_secret: Annotated[bool, typer.Option("--rotate-secret", help="A new signing secret, shown once")] = False,
    drop_secret: Annotated[
        bool, typer.Option("--drop-secret", help="Let its bucket's or the installation's secret sign again")
    ] = False,
    overlap_s: Overlap = _DAY_S,
    rate_per_s: Annotated[
        float | None, typer.Option("--rate", min=0, help="Send at most so many per second, 0: no limit")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Send an event of the kind Test")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Forget it; all that waits for it is cancelled")] = False,
) -> None:
    """Show a target, or do one thing with it."""
    if (is_paused is not None) + rotate_secret + drop_secret + (rate_per_s is not None) + test + remove > 1:
        raise typer.BadParameter(
            "do one thing at a time: --pause, --resume, --rotate-secret, --drop-secret, --rate, --test or --remove"
        )
    if rotate_secret:
        answer = client.call("POST", "/target/secret", body={"url": url, "overlap_s": overlap_s})
        out.show(answer, lambda: out.facts(answer))
    elif test:
        delivery = client.call("POST", "/target/test", body={"url": url})
        out.show(delivery, lambda: _print_deliveries(out, [delivery]))
    elif remove:
        answer = client.call("DELETE", "/target", query={"url": url})
        out.say(answer, f"{answer['count']} deliveries are cancelled")
    elif rate_per_s is not None:
        target = client.call("POST", "/target/rate", body={"url": url, "rate_per_s": rate_per_s})
        out.show(target, lambda: _print_targets(out, [target]))
    else:
        target = _change(client, url, is_paused, overlap_s if drop_secret else None)
        out.show(target, lambda: _print_targets(out, [target]))


def _change(client: Client, url: str, is_paused: bool | None, drop_overlap_s: int | None) -> dict[str, Any]:
    if drop_overlap_s is not None:
        return client.call("DELETE", "/target/secret", query={"url": url, "overlap_s": drop_overlap_s})
    if is_paused is None:
        return client.call("GET", "/target", query={"url": url})
    return client.call("POST", "/target/pause" if is_paused else "/target/resume", body={"url": url})


@with_server
def bucket_secret(
    client: Client,
    out: Output,
    bucket: Annotated[str, typer.Argument()],
    rotate: Annotated[bool, typer.Option("--rotate", help="A new signing secret, shown once")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Let the installation's secret sign again")] = False,
    overlap_s: Overlap = _DAY_S,
) -> None:
    """Show whether a bucket's callbacks have a signing secret of their own, give them one, or take it away."""
    if rotate and drop:
        raise typer.BadParameter("do one thing at a time: --rotate or --drop")
    path = f"/buckets/{part(bucket)}/secret"
    if rotate:
        answer = client.call("POST", path, body={"overlap_s": overlap_s})
    elif drop:
        answer = client.call("DELETE", path, query={"overlap_s": overlap_s})
    else:
        answer = client.call("GET", path)
    out.show(answer, lambda: out.facts(answer))

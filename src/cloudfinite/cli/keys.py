"""Commands on access keys: list, show, add, change, disable, enable, remove, and temporary credentials."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import with_server
from cloudfinite.cli.output import Output, local_time

app = typer.Typer(help="Access keys: who may sign requests, and what for.", no_args_is_help=True)

_COLUMNS = ("SECRET ID", "STATE", "BUCKETS", "PREFIXES", "ACTIONS", "CREATED")
_READ_ONLY = "read-only"

_Id = Annotated[str, typer.Argument(metavar="ID")]
_Policy = list[Any] | None

_OPTIONS: dict[str, Any] = {
    "buckets": (
        Annotated[list[str] | None, typer.Option("--bucket", help="Only in this bucket; may be repeated")],
        None,
    ),
    "prefixes": (
        Annotated[list[str] | None, typer.Option("--prefix", help="Only keys that begin so; may be repeated")],
        None,
    ),
    "actions": (
        Annotated[
            list[str] | None,
            typer.Option("--action", help="Only this action, as ci:CreateMediaJobs or cos:Get*; may be repeated"),
        ],
        None,
    ),
    "is_read_only": (
        Annotated[bool, typer.Option("--read-only", help="Only actions that change nothing and run nothing")],
        False,
    ),
    "file": (
        Annotated[Path | None, typer.Option("--policy", help="Several rules: a JSON file, see docs/access.md")],
        None,
    ),
}


def _with_policy(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make a policy; its argument `policy` becomes what they say, None for nothing."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "policy"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def run(*arguments: Any, **given: Any) -> None:
        options = {name: given.pop(name) for name in _OPTIONS}
        command(*arguments, **given, policy=_read_policy(**options))

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]  # read by with_server
    return run


def _read_policy(
    buckets: list[str] | None,
    prefixes: list[str] | None,
    actions: list[str] | None,
    *,
    is_read_only: bool,
    file: Path | None,
) -> _Policy:
    actions = [*(actions or ()), *([_READ_ONLY] if is_read_only else ())]
    given = {"buckets": buckets, "prefixes": prefixes, "actions": actions}
    rule = {name: values for name, values in given.items() if values}
    if file is None:
        return [rule] if rule else None
    if rule:
        raise typer.BadParameter("--policy says all of it; leave the other options out")
    try:
        rules = json.loads(file.read_text())
    except (OSError, ValueError) as exc:
        raise typer.BadParameter(f"the policy {file} cannot be read: {exc}") from exc
    return rules if isinstance(rules, list) else [rules]


@app.command("list")
@with_server
def list_keys(client: Client, out: Output) -> None:
    """List the keys with what they may do."""
    answer = client.call("GET", "/keys")
    out.show(answer, lambda: _print(out, answer["items"]))


@app.command("show")
@with_server
def show_key(client: Client, out: Output, secret_id: _Id) -> None:
    """Show what a key may do; never its secret."""
    key = client.call("GET", f"/keys/{part(secret_id)}")
    out.show(key, lambda: _print(out, [key]))


@app.command("add")
@with_server
@_with_policy
def add_key(
    client: Client,
    out: Output,
    secret_id: Annotated[str, typer.Option("--id", help="Secret id; made up unless given")] = "",
    policy: _Policy = None,
) -> None:
    """Add a key pair and print it: the secret key is shown here and nowhere else. Without options it may do all."""
    answer = client.call("POST", "/keys", body={"secret_id": secret_id, "policy": policy})
    out.show(answer, lambda: out.facts({"SecretId": answer["secret_id"], "SecretKey": answer["secret_key"]}))


@app.command("change")
@with_server
@_with_policy
def change_key(
    client: Client,
    out: Output,
    secret_id: _Id,
    policy: _Policy = None,
) -> None:
    """Replace what a key may do, at once; its secret stays."""
    if policy is None:
        raise typer.BadParameter("say what it may do: --bucket, --prefix, --action, --read-only or --policy")
    key = client.call("PATCH", f"/keys/{part(secret_id)}", body={"policy": policy})
    out.show(key, lambda: _print(out, [key]))


@app.command("disable")
@with_server
def disable_key(client: Client, out: Output, secret_id: _Id) -> None:
    """Refuse what a key and credentials made from it sign, until it is enabled again."""
    key = client.call("PATCH", f"/keys/{part(secret_id)}", body={"is_enabled": False})
    out.say(key, f"{key['secret_id']} is disabled")


@app.command("enable")
@with_server
def enable_key(client: Client, out: Output, secret_id: _Id) -> None:
    """Let a disabled key sign again."""
    key = client.call("PATCH", f"/keys/{part(secret_id)}", body={"is_enabled": True})
    out.say(key, f"{key['secret_id']} is enabled")


@app.command("remove")
@with_server
def remove_key(client: Client, out: Output, secret_id: _Id) -> None:
    """Remove a key pair; what it signs is refused from now on. That of the settings returns at the next start."""
    answer = client.call("DELETE", f"/keys/{part(secret_id)}")
    out.say(answer, f"{answer['secret_id']} is removed")


@app.command("temporary")
@with_server
@_with_policy
def make_temporary(
    client: Client,
    out: Output,
    secret_id: _Id,
    lifetime_s: Annotated[int, typer.Option("--for", min=1, help="How long they are good [s]")] = 1_800,
    policy: _Policy = None,
) -> None:
    """Make temporary credentials of a key and print them: for no more than the key may do."""
    body = {"secret_id": secret_id, "lifetime_s": lifetime_s, "policy": policy}
    answer = client.call("POST", "/credentials", body=body)
    names = {"SecretId": "secret_id", "SecretKey": "secret_key", "Token": "token", "Expires": "expires_at"}
    out.show(answer, lambda: out.facts({title: answer[name] for title, name in names.items()}))


def _print(out: Output, keys: Sequence[Mapping[str, Any]]) -> None:
    """One line a rule."""
    rows = []
    for key in keys:
        for rule in key["policy"]:
            texts = [", ".join(one or "(all)" for one in rule[name]) for name in ("buckets", "prefixes", "actions")]
            state = "enabled" if key["is_enabled"] else "disabled"
            rows.append((key["secret_id"], state, *texts, local_time(key["created_at"])))
    out.table(_COLUMNS, rows, empty="no keys")

"""Options that many commands share: which server, JSON or tables, times as people write them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, find_server
from cloudfinite.cli.output import Output
from cloudfinite.settings import read_settings

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PANEL = "Server"

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Show at most so many")]


def parse_time(text: str) -> str:
    """`90s`, `30m`, `2h`, `7d` ago, or an ISO time (local unless it says otherwise), as ISO in UTC."""
    if found := re.fullmatch(r"(\d{1,6})([smhd])", text):
        at = datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    else:
        try:
            at = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError) as exc:
            raise typer.BadParameter(f"{text!r} is no time; write 30m, 2h, 7d or 2026-01-05T10:00:00") from exc
    return at.isoformat().replace("+00:00", "Z")


Since = Annotated[
    str | None, typer.Option(parser=parse_time, metavar="TIME", help="Created then or later: 30m, 2h, 7d, or ISO time")
]
Until = Annotated[
    str | None, typer.Option(parser=parse_time, metavar="TIME", help="Created then or before: as --since")
]

_SHARED: dict[str, Any] = {
    "as_json": (Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON")], False),
    "data": (Annotated[Path | None, typer.Option(help="Data folder of the server", rich_help_panel=_PANEL)], None),
    "config": (Annotated[Path | None, typer.Option(help="TOML file of the server", rich_help_panel=_PANEL)], None),
    "server": (Annotated[str, typer.Option(metavar="URL", help="Address of a server", rich_help_panel=_PANEL)], ""),
    "token": (Annotated[str, typer.Option(help="Its admin token", rich_help_panel=_PANEL)], ""),
}


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which server; its first two arguments become a Client and an Output."""
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[2:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        as_json, data, config, server, token = (given.pop(name) for name in _SHARED)
        command(_client(data, config, server, token), Output(as_json=as_json), **given)

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]  # read by typer
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
    return run


def _client(data: Path | None, config: Path | None, server: str, token: str) -> Client:
    settings = read_settings(config, data=data)
    return find_server(settings.data, server=server, token=token or settings.admin_token)

"""`cloudfinite watch`: a folder's files become objects of a bucket, each once it is completely written."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from cloudfinite.cli.client import Client
from cloudfinite.cli.options import with_server
from cloudfinite.cli.output import Output, plain
from cloudfinite.cli.upload import ServerAway, Uploader
from cloudfinite.cli.watch_folder import FolderWatch, WatchRules
from cloudfinite.cli.watch_state import WatchState

STATE_NAME = ".cloudfinite-watch"

_Patterns = list[str] | None


@with_server
def watch(
    client: Client,
    out: Output,
    folder: Annotated[Path, typer.Argument(help="Where files arrive", exists=True, file_okay=False)],
    bucket: Annotated[str, typer.Argument(help="Where they go: name with its number")],
    prefix: Annotated[str, typer.Option(help="Put before each path to make the key, as in scans/")] = "",
    include: Annotated[_Patterns, typer.Option(metavar="PATTERN", help="Only such files, as *.pdf; repeatable")] = None,
    exclude: Annotated[
        _Patterns, typer.Option(metavar="PATTERN", help="Not such files or folders; hidden, *.part and *.tmp never")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Send what is there, then end")] = False,
    interval: Annotated[
        float, typer.Option(min=0.05, metavar="SECONDS", help="Between looks; a file that stays the same is complete")
    ] = 2.0,
    move: Annotated[Path | None, typer.Option(metavar="DIR", help="Move what was sent there", file_okay=False)] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Where to remember what was sent (in the folder: {STATE_NAME})")
    ] = None,
) -> None:
    """Put the files of a folder into a bucket as they are completed; Ctrl-C stops. Sub-folders are looked into."""
    memory = WatchState(state or folder / STATE_NAME, f"{bucket}/{prefix}")
    rules = WatchRules(folder, prefix, include or (), exclude or (), move)
    uploader = Uploader(client, bucket, prefix)
    watching = FolderWatch(rules, memory, uploader, lambda line: _say(out, line))
    failed = 0
    with contextlib.closing(memory), contextlib.suppress(KeyboardInterrupt):
        with contextlib.suppress(ServerAway):
            uploader.prepare()
        failed = watching.run(interval, once=once)
    if failed:
        raise typer.Exit(1)


def _say(out: Output, line: str) -> None:
    out.say({"event": line}, plain(line))

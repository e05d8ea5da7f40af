"""`cloudfinite backup` of a running server, and `cloudfinite restore` into a stopped data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloudfinite.cli.client import Client
from cloudfinite.cli.options import with_server
from cloudfinite.cli.output import Output


@with_server
def backup(
    client: Client,
    output: Output,
    target: Annotated[Path, typer.Argument(help="New folder for the copy, on the server's machine")],
) -> None:
    """Copy database, keys and objects while the server runs (SQLite; of PostgreSQL use pg_dump)."""
    answer = client.call("POST", "/backup", body={"target": str(target.resolve())}, wait_s=3600)
    output.say(answer, f"backup written to {answer['target']}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that `cloudfinite backup` wrote")],
    data: Annotated[Path, typer.Option(help="Data folder to fill; no server may run on it")] = Path("cloudfinite-data"),
) -> None:
    """Fill a stopped data folder from a backup."""
    from cloudfinite.adapters.backup import restore_backup

    restore_backup(source, data)
    typer.echo(f"restored into {data}; start it with: cloudfinite serve --data {data}")

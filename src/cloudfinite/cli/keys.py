"""Commands on access keys: list, add, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import with_server
from cloudfinite.cli.output import Output

app = typer.Typer(help="Access keys: who may sign requests.", no_args_is_help=True)


@app.command("list")
@with_server
def list_keys(client: Client, out: Output) -> None:
    """List the secret ids."""
    answer = client.call("GET", "/keys")
    rows = [[key["secret_id"]] for key in answer["items"]]
    out.show(answer, lambda: out.table(("SECRET ID",), rows, empty="no keys"))


@app.command("add")
@with_server
def add_key(
    client: Client,
    out: Output,
    secret_id: Annotated[str, typer.Option("--id", help="Secret id; made up unless given")] = "",
) -> None:
    """Add a key pair and print it: the secret key is shown here and nowhere else."""
    answer = client.call("POST", "/keys", body={"secret_id": secret_id})
    out.show(answer, lambda: out.facts({"SecretId": answer["secret_id"], "SecretKey": answer["secret_key"]}))


@app.command("remove")
@with_server
def remove_key(client: Client, out: Output, secret_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Remove a key pair; what it signs is refused from now on. That of the settings returns at the next start."""
    answer = client.call("DELETE", f"/keys/{part(secret_id)}")
    out.say(answer, f"{answer['secret_id']} is removed")

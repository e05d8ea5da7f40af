"""Commands on buckets: list them, and say who may read their objects without a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cloudfinite.cli.client import Client, part
from cloudfinite.cli.options import Limit, with_server
from cloudfinite.cli.output import Output, local_time

_COLUMNS = ("BUCKET", "REGION", "ACL", "CREATED")


@with_server
def list_buckets(client: Client, out: Output, limit: Limit = 50) -> None:
    """List buckets."""
    answer = client.pages("/buckets", {}, limit)
    out.show(answer, lambda: _print(out, answer["items"]))


@with_server
def change_bucket(
    client: Client,
    out: Output,
    bucket: Annotated[str, typer.Argument()],
    acl: Annotated[
        str | None, typer.Option(help="private, or public-read: anybody may read objects without a key")
    ] = None,
) -> None:
    """Show a bucket; change what is given."""
    answer = client.call("PATCH", f"/buckets/{part(bucket)}", body={} if acl is None else {"acl": acl})
    out.show(answer, lambda: _print(out, [answer]))


def _print(out: Output, buckets: Sequence[Mapping[str, Any]]) -> None:
    rows = [(one["name"], one["region"], one["acl"], local_time(one["created_at"])) for one in buckets]
    out.table(_COLUMNS, rows, empty="no buckets")

"""`cloudfinite receive`: a receiver that shows each callback and reports what was wrong with the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cloudfinite.web.inbox import Fault


def receive(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one")] = 8088,
    secret: Annotated[
        list[str] | None, typer.Option(help="Secret (whsec_…) to check signatures with; again for more")
    ] = None,
    late: Annotated[float, typer.Option(help="Seconds after a job's end from which a callback is late")] = 60.0,
    fail: Annotated[
        list[str] | None,
        typer.Option(metavar="FAULT", help="Fail the first callbacks of each path: 500x3, timeout, redirect, reset"),
    ] = None,
) -> None:
    """Receive callbacks; at Ctrl-C report lost, repeated, late, out-of-sequence and badly signed ones."""
    import asyncio
    import contextlib
    import signal

    from cloudfinite.receive import Receiver
    from cloudfinite.receive import receive as run

    faults = [_read_fault(text) for text in fail or ()]
    receiver = Receiver(typer.echo, secrets=secret or (), late_s=late, faults=faults)

    async def until_stopped() -> bool:
        task = asyncio.ensure_future(run(receiver, host, port, typer.echo))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        return receiver.is_clean

    raise typer.Exit(0 if asyncio.run(until_stopped()) else 1)


def _read_fault(text: str) -> Fault:
    """`500x3` is the status 500 three times; `timeout`, `redirect` and `reset` may have a count too."""
    from cloudfinite.web.inbox import Fault, FaultKind

    kind, _, times = text.partition("x")
    try:
        count = int(times or "1")
        if kind.isdigit() and 100 <= int(kind) <= 599:
            return Fault(FaultKind.STATUS, count, status=int(kind))
        return Fault(FaultKind(kind), count)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is no fault; write 500x3, timeout, redirect or resetx2") from exc

"""The server as a process: runs until SIGTERM or SIGINT, then drains."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

import structlog

from cloudfinite import __version__
from cloudfinite.app.application import App
from cloudfinite.app.logs import configure_logging
from cloudfinite.settings import Settings

log = structlog.get_logger()

_OBJECTS = 20_000  # new ones before the next look for cycles


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    configure_logging(settings.log_level, as_json=settings.log_json)
    if sys.platform != "win32":
        import uvloop

        uvloop.run(_serve(settings))
    else:
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    app = App(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await app.start()
    spare_collections()
    _greet(app)
    try:
        await stopping.wait()
        log.info("app.draining")
    finally:
        await app.stop()


def spare_collections() -> None:
    """Have Python look for cycles of garbage seldom: what comes and goes is freed by its counts."""
    # What the start made lives as long as the process: no collection needs to walk it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS)


def _greet(app: App) -> None:
    """Tell a person where the server is and how to use it."""
    settings = app.settings
    lines = [f"cloudfinite {__version__} listens on {app.url}"]
    if not settings.secret_id and settings.is_loopback and (pair := app.key_pair):
        lines.append(f"development key pair: SecretId={pair[0]} SecretKey={pair[1]}")
    lines.append(f"console: {app.url}/-/console/   data: {settings.data}   Ctrl-C to stop")
    print("\n".join(lines), flush=True)

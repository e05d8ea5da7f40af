"""How this process logs: structured lines to standard error, ids in each."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import structlog


class _LastingStderr(io.TextIOBase):
    """Standard error that never fails: a full disk below a log file must not stop what is being told."""

    def write(self, words: str) -> int:
        with suppress(OSError):
            sys.stderr.write(words)
        return len(words)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def escape_controls(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A log processor: a client's or receiver's text neither ends a line nor commands the terminal it is read in."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode()
    return event


def configure_logging(level: str, *, as_json: bool) -> None:
    """Structured lines to standard error; ids in each."""
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            escape_controls,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(_LastingStderr()),  # type: ignore[arg-type]  # print() needs no more of it
        cache_logger_on_first_use=True,
    )

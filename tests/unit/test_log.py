"""What a log line may hold (X14)."""

from __future__ import annotations

import pytest
import structlog

from cloudfinite.app.logs import escape_controls


@pytest.mark.parametrize(
    "text", ["a\nlevel=error forged", "\r\n", "\x1b[2J\x1b]0;owned\x07", "\u202egnp", "a\0b", "\x9b2J"]
)
@pytest.mark.parametrize("is_json", [True, False])
def test_foreign_text_stays_on_its_line_and_commands_no_terminal(text: str, is_json: bool) -> None:
    renderer = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=False)
    line = renderer(None, "info", escape_controls(None, "info", {"event": "delivery.failed", "reason": text}))
    assert isinstance(line, str) and line.isprintable()


def test_printable_text_is_told_as_it_is() -> None:
    event = {"event": "e", "reason": "超时 – naïve 🙂", "count": 3}
    assert escape_controls(None, "info", dict(event)) == event

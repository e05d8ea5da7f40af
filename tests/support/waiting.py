"""Wait for what must come, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.02


def until(look: Callable[[], T], what: str, *, wait_s: float = 30.0, poll_s: float = _POLL_S) -> T:
    """The first true value of `look`. Raises AssertionError naming `what` and the last value seen."""
    ends_at = time.monotonic() + wait_s
    while not (value := look()):
        if time.monotonic() > ends_at:
            raise AssertionError(f"{what}: not within {wait_s:g} s; last seen: {value!r}")
        time.sleep(poll_s)
    return value

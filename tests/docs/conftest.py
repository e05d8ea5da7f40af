from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudfinite.testing import Server

LINES = [
    {"text": "Plow the fields at noon", "box": [40, 24, 176, 35], "confidence": 0.98},
    {"text": "Every grain is hard-earned", "box": [39, 181, 165, 34]},
]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server whose engine reads the same two lines from everything."""
    with Server(ocr_engine="fixed", ocr_options={"lines": LINES}, workers=1) as running:
        yield running

"""A pytest fixture with a server of its own for the session; found by pytest where cloudfinite is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudfinite.testing import Server


@pytest.fixture(scope="session")
def cloudfinite_server() -> Iterator[Server]:
    """A running server with an OCR engine that finds nothing; override for settings of your own."""
    with Server(ocr_engine="fixed") as server:
        yield server

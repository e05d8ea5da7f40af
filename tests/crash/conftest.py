"""What the tests that kill share: a receiver that nobody kills, and a database of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.postgres import fresh_database
from tests.support.posts import PostKeeper, keeping_posts

from cloudfinite.testing import Server


@pytest.fixture(scope="session")
def receiver() -> Iterator[Server]:
    """A server whose inboxes outlive the crashes of the others."""
    with Server(ocr_engine="fixed", workers=0) as running:
        yield running


@pytest.fixture
def keeper() -> Iterator[PostKeeper]:
    """A receiver of the test's own that keeps all POSTs, and answers as told."""
    with keeping_posts() as running:
        yield running


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url

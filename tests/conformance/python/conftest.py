"""A served app and the official Python SDK, unchanged, pointed at it through its proxy setting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qcloud_cos import CosConfig, CosS3Client

from cloudfinite.testing import Server


def client_of(server: Server, **config: object) -> CosS3Client:
    settings = {
        "Region": server.region,
        "SecretId": server.secret_id,
        "SecretKey": server.secret_key,
        "Scheme": "http",
        "Proxies": {"http": server.url},
        **config,
    }
    return CosS3Client(CosConfig(**settings))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(
        ocr_engine="tests.support.scripted_engine:ScriptedEngine",
        buckets=f"{Server.bucket}:ap-chongqing,test-1234567890:ap-chongqing",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> CosS3Client:
    return client_of(server)

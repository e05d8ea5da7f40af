"""Hostile and broken files through the running server with the real engine: each ends soon, in a named state."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qcloud_cos import CosConfig, CosS3Client
from tests.support import bombs

from cloudfinite.testing import Server

pytestmark = [pytest.mark.real_engine, pytest.mark.sdk]

MOST_GROWTH_BYTES = 50 * 1024 * 1024
SCRIPT = "<< /S /JavaScript /JS (app.alert(1)) >>"
LAUNCH = "<< /S /Launch /F (/bin/sh) >>"
SVG = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg><text>&a;</text></svg>'

# name, file, what its job's Message says ("" for Success without text)
FILES = [
    ("png-12000", lambda: bombs.bilevel_png(12_000), "12000 × 12000 pixels; at most 10000 per side"),
    ("png-20000", lambda: bombs.bilevel_png(20_000), "20000 × 20000 pixels|far more than"),
    ("tiff-12000", lambda: bombs.fax_tiff(12_000), "12000 × 12000 pixels; at most 10000 per side"),
    ("png-10000", lambda: bombs.bilevel_png(10_000), ""),  # Just allowed: decoded in the child.
    ("gif-300-frames", lambda: bombs.many_frames_gif(2_000, 300), ""),
    ("jpeg-half", lambda: bombs.picture("JPEG")[:9_000], "the JPEG picture is damaged"),
    ("jpeg-1-kb", lambda: bombs.picture("JPEG")[:1_000], "the JPEG picture is damaged"),
    ("html", lambda: b"<!doctype html><title>no picture</title>", "no PNG, JPEG, BMP, WebP, TIFF, GIF or PDF"),
    ("empty", lambda: b"", "the input is empty"),
    ("pdf-320-mb-of-paths", lambda: bombs.path_operators_pdf(320_000_000), ".+"),
    ("pdf-double-flate", lambda: bombs.double_packed_pdf(550_000_000), None),
    ("pdf-144000-pt", lambda: bombs.pdf(side_pt=144_000), ""),
    ("pdf-100000-pages", lambda: bombs.pdf(kids="3 0 R " * 100_000, count=100_000), "at most 5000 are allowed"),
    ("pdf-encrypted", bombs.encrypted_pdf, "the PDF is encrypted"),
    ("pdf-cyclic-pages", lambda: bombs.pdf(kids="2 0 R"), None),
    ("pdf-script", lambda: bombs.pdf(catalog=f"/OpenAction {SCRIPT} /AA << /O {LAUNCH} >>"), ""),
    ("pdf-cut", lambda: bombs.pdf(b"0 0 m" * 500)[:700], None),
    ("svg", lambda: SVG, "no PNG, JPEG, BMP, WebP, TIFF, GIF or PDF"),
    ("png-1-by-65535", lambda: bombs.picture("PNG", (1, 65_535)), "1 × 65535 pixels; at most 10000 per side"),
    ("jpeg-giant-profile", lambda: bombs.picture("JPEG", icc_profile=b"\xff" * 3_000_000), None),
    ("heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "no PNG, JPEG, BMP, WebP, TIFF, GIF or PDF"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(workers=2) as running:
        warm_up(running)
        yield running


@pytest.fixture(scope="module")
def idle_rss_bytes(server: Server) -> int:
    return rss_bytes(server)


def rss_bytes(server: Server) -> int:
    """Of the server itself, not of its children."""
    assert server.process is not None
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def client_of(server: Server) -> CosS3Client:
    keys = {"SecretId": server.secret_id, "SecretKey": server.secret_key}
    return CosS3Client(CosConfig(Region=server.region, Scheme="http", Proxies={"http": server.url}, **keys))


def run_job(server: Server, key: str, body: bytes) -> dict[str, object]:
    """The ended job."""
    client = client_of(server)
    client.put_object(Bucket=server.bucket, Body=body, Key=key)
    operation = {"ImageOCR": {"Type": "general", "IsPdf": "true"}}
    jobs = {"Tag": "ImageOCR", "Input": {"Object": key}, "Operation": operation, "CallBack": server.inbox(key)}
    client.ci_create_media_jobs(Bucket=server.bucket, Jobs=jobs, Lst={})
    server.wait_for_callbacks(key, 1, wait_s=60)
    listed = client.ci_list_media_jobs(Bucket=server.bucket, QueueId="", Tag="ImageOCR", Size=1)
    return dict(listed["JobsDetail"][0])


def warm_up(server: Server) -> None:
    """So that what a first job loads is not counted as growth."""
    detail = run_job(server, "warm-up", bombs.picture("PNG"))
    assert detail["State"] == "Success"


@pytest.mark.parametrize(("name", "make", "message"), FILES, ids=[name for name, _, _ in FILES])
def test_hostile_file_ends_in_a_named_state(
    server: Server, idle_rss_bytes: int, name: str, make: Callable[[], bytes], message: str | None
) -> None:
    detail = run_job(server, name, make())
    assert detail["Input"]["Object"] == name
    if message is None:
        assert detail["State"] in ("Success", "Failed")
    elif message:
        assert detail["State"] == "Failed" and detail["Code"] not in ("", "Success")
        assert re.search(message, detail["Message"]), detail["Message"]
    else:
        assert detail["State"] == "Success" and "TextDetections" not in detail["Operation"]["Detection"]
    assert rss_bytes(server) - idle_rss_bytes <= MOST_GROWTH_BYTES
    assert server.get("/-/ready")

"""The commands of `docs/scale-out.md`, as they stand there but for addresses, ports and folders."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from qcloud_cos import CosConfig, CosS3Client
from tests.docs.pages import ROOT, code_blocks
from tests.support.waiting import until

from cloudfinite.testing import Server

PAGE = ROOT / "docs" / "scale-out.md"
FOLDER, DATABASE = "/mnt/cloudfinite", "postgresql://cloudfinite:change-me@db.internal/cloudfinite"


@contextmanager
def documented_database(url: str) -> Iterator[str]:
    """The page's SQL, run by PostgreSQL's administrator; the URL of its role."""
    [words] = code_blocks(PAGE, "sql")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(str.strip, words.split(";")):
            connection.execute(statement.encode())
    parts = urlsplit(url)
    try:
        yield urlunsplit(
            parts._replace(netloc=f"cloudfinite:change-me@{parts.netloc.rpartition('@')[2]}", path="/cloudfinite")
        )
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP DATABASE cloudfinite WITH (FORCE)")
            connection.execute("DROP ROLE cloudfinite")


@contextmanager
def running(command: str, folder: Path) -> Iterator[str]:
    """Run one of the page's commands on a free port; the URL it prints, on loopback."""
    program, *words = shlex.split(command.replace(FOLDER, str(folder)))
    assert program == "cloudfinite"
    words[words.index("--port") + 1] = "0"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFINITE_")}
    environment |= {"CLOUDFINITE_OCR_ENGINE": "fixed", "CLOUDFINITE_WORKERS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "cloudfinite.cli", *words], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1].replace("0.0.0.0", "127.0.0.1")
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_roles_of_the_page_run_a_job_and_send_its_callback(tmp_path: Path, postgres_url: str, server: Server) -> None:
    [words] = code_blocks(PAGE, "toml")
    with documented_database(postgres_url) as database, ExitStack() as stack:
        words = words.replace(DATABASE, database).replace(FOLDER, str(tmp_path)).replace("10.0.0.0/8", "127.0.0.0/8")
        (tmp_path / "cloudfinite.toml").write_text(words)
        settings = tomllib.loads(words)
        urls = [stack.enter_context(running(line, tmp_path)) for line in code_blocks(PAGE, "sh")[0].splitlines()]
        client = CosS3Client(
            CosConfig(
                Region="ap-chongqing", SecretId=settings["secret_id"], SecretKey=settings["secret_key"], Scheme="http",
                Proxies={"http": urls[0]},
            )
        )  # fmt: skip
        bucket = settings["buckets"].partition(":")[0]
        client.put_object(Bucket=bucket, Key="page.png", Body=b"any bytes")
        client.ci_create_media_jobs(
            Bucket=bucket,
            Jobs={
                "Tag": "ImageOCR", "Input": {"Object": "page.png"}, "Operation": {"ImageOCR": {"Type": "general"}},
                "CallBack": server.inbox("scale-out"),
            },
            Lst={},
        )  # fmt: skip
        [callback] = until(lambda: server.callbacks("scale-out"), "the callback")
        assert b"<State>Success</State>" in callback.body

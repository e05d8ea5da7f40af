"""The commands of `docs/scale-out.md`, as they stand there but for addresses, ports and folders."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from qcloud_cos import CosConfig, CosS3Client
from tests.docs.pages import ROOT, code_blocks
from tests.support.seaweed import free_ports
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
    words = code_blocks(PAGE, "toml")[0]
    with documented_database(postgres_url) as database:
        words = words.replace(DATABASE, database).replace(FOLDER, str(tmp_path)).replace("10.0.0.0/8", "127.0.0.0/8")
        check_roles(words, tmp_path, server, "shared-folder")


def check_roles(
    words: str, folder: Path, server: Server, inbox: str, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Run the page's three roles with these settings, and through them a job with its callback."""
    (folder / "cloudfinite.toml").write_text(words)
    settings = tomllib.loads(words)
    with ExitStack() as stack:
        urls = [stack.enter_context(running(line, folder)) for line in code_blocks(PAGE, "sh")[0].splitlines()]
        client = CosS3Client(
            CosConfig(
                Region="ap-chongqing", SecretId=settings["secret_id"], SecretKey=settings["secret_key"], Scheme="http",
                Proxies={"http": urls[0]},
            ),
            retry=0,  # a request that it repeats is a second job, with a callback of its own
        )  # fmt: skip
        bucket = settings["buckets"].partition(":")[0]
        client.put_object(Bucket=bucket, Key="page.png", Body=b"any bytes")
        meanwhile()
        client.ci_create_media_jobs(
            Bucket=bucket,
            Jobs={
                "Tag": "ImageOCR", "Input": {"Object": "page.png"}, "Operation": {"ImageOCR": {"Type": "general"}},
                "CallBack": server.inbox(inbox),
            },
            Lst={},
        )  # fmt: skip
        [callback] = until(lambda: server.callbacks(inbox), "the callback")
        assert b"<State>Success</State>" in callback.body


# --- with a distributed object store ---------------------------------------------------------------------------------


class Storage:
    """The page's SeaweedFS, as it stands there but for addresses, ports and folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = dict(zip(("9333", "8080", "8081", "8888", "8333"), free_ports(5), strict=True))
        self._names = {f"{word}{port}": f"{word}{ours}" for port, ours in ports.items() for word in (":", "port=")}
        self.processes: list[subprocess.Popen[bytes]] = []

    def ours(self, words: str) -> str:
        for theirs, ours in {**self._names, "/srv/weed": str(self.folder)}.items():
            words = words.replace(theirs, ours)
        return re.sub(r"10\.0\.1\.\d", "127.0.0.1", words)

    def start(self) -> None:
        [identities], [_, commands, make_bucket] = code_blocks(PAGE, "json"), code_blocks(PAGE, "sh")
        (self.folder / "s3.json").write_text(identities)
        log = (self.folder / "weed.log").open("wb")
        with log:
            for line in self.ours(commands).splitlines():
                program, *words = shlex.split(line)
                for word in words:
                    if str(self.folder) in word and "s3.json" not in word:
                        Path(word.partition("=")[2]).mkdir()
                command = [str(Path(sys.executable).parent / program), *words]
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))
        until(lambda: self._made(make_bucket), "the bucket to be made")

    def _made(self, command: str) -> bool:
        """Whether the page's command has made the bucket."""
        weed = f"{Path(sys.executable).parent}/weed"
        done = subprocess.run(
            ["sh", "-c", self.ours(command).replace("weed shell", f"{weed} shell")],
            capture_output=True, text=True, timeout=60, check=False, cwd=self.folder,
        )  # fmt: skip
        return "created bucket" in done.stdout + done.stderr

    def kill_volume_server(self) -> None:
        self.processes[1].kill()
        self.processes[1].wait()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def test_roles_of_the_page_work_on_a_distributed_store_and_outlive_a_volume_server(
    tmp_path: Path, postgres_url: str, server: Server
) -> None:
    storage = Storage(tmp_path / "weed")
    storage.folder.mkdir()
    words = storage.ours(code_blocks(PAGE, "toml")[1])
    try:
        storage.start()
        with documented_database(postgres_url) as database:
            words = words.replace(DATABASE, database).replace("10.0.0.0/8", "127.0.0.0/8")
            words = words.replace("/var/lib/cloudfinite", str(tmp_path / "data"))
            check_roles(words, tmp_path, server, "object-store", storage.kill_volume_server)
    finally:
        storage.stop()

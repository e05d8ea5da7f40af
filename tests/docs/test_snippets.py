"""The README's snippet and the examples do what they say, against a server, with the official SDK unchanged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from qcloud_cos import CosConfig, CosS3Client
from tests.docs.pages import ROOT, code_blocks

from cloudfinite.testing import Server

pytestmark = [pytest.mark.sdk, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
EXAMPLES = ROOT / "examples"
HTTP_HEADERS = {"host", "content-length", "accept", "accept-encoding", "connection"}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The engine of these tests reads the same lines from any file."""
    path = tmp_path / "page.png"
    path.write_bytes(b"any bytes")
    return path


def run(*arguments: str | Path, cwd: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_readme_snippet_reads_the_page_and_its_callback_arrives(server: Server, page: Path) -> None:
    [code] = code_blocks(ROOT / "README.md", "python")[:1]
    for written, here in (
        ("http://127.0.0.1:9000", server.url),
        ('"AKID…"', repr(server.secret_id)),
        ('"…"', repr(server.secret_key)),
    ):
        assert written in code
        code = code.replace(written, here)
    script = page.with_name("snippet.py")
    script.write_text(code)
    output = run(script, cwd=page.parent)
    assert output.startswith("Success") and "Plow the fields at noon" in output
    [callback] = server.wait_for_callbacks("mine", 1)
    assert callback.body.startswith(b"<Response><EventName>TaskFinish</EventName>")
    told = (ROOT / "docs" / "wire" / "callback.md").read_text().lower()
    assert [name for name in callback.headers if name not in HTTP_HEADERS and f"| `{name}` |" not in told] == []


def test_readme_snippet_for_tests_starts_a_server(tmp_path: Path) -> None:
    [code] = [code for code in code_blocks(ROOT / "README.md", "python") if "cloudfinite.testing" in code]
    script = tmp_path / "snippet.py"
    script.write_text(code)
    assert run(script, cwd=tmp_path).split()[1:] == [Server.secret_id, Server.bucket]


def test_submit_and_poll_prints_the_lines(server: Server, page: Path) -> None:
    output = run(
        EXAMPLES / "submit_and_poll.py", page, "--server", server.url,
        "--secret-id", server.secret_id, "--secret-key", server.secret_key, cwd=page.parent,
    )  # fmt: skip
    assert output.splitlines() == [" 98 %  Plow the fields at noon", " 99 %  Every grain is hard-earned"]


def test_workflow_turns_the_uploaded_picture_and_reads_it(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    Image.new("RGB", (40, 20), "white").save(picture)
    output = run(
        EXAMPLES / "workflow.py", picture, "--server", server.url,
        "--secret-id", server.secret_id, "--secret-key", server.secret_key, cwd=tmp_path,
    )  # fmt: skip
    assert output.splitlines() == [
        "Success: incoming/page.png",
        "  PicProcess_1: Success, incoming/page.png -> turned/page.png",
        "  ImageOCR_1: Success, turned/page.png -> turned/page.png",
        "callbacks: TaskFinish, TaskFinish, WorkflowFinish",
    ]


def test_own_tag_runs_in_a_server_that_was_told_its_module(tmp_path: Path) -> None:
    assert run(EXAMPLES / "own_tag.py", cwd=tmp_path) == '{"Lines": 2, "Words": 7}\n'


@pytest.fixture
def receiver(server: Server) -> Iterator[subprocess.Popen[str]]:
    arguments = ["--port", "0", "--secret-file", str(server.data / "webhook.secret")]
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "receive_callback.py"), *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.terminate()


def test_receive_callback_verifies_and_reads_what_the_server_sends(
    server: Server, receiver: subprocess.Popen[str]
) -> None:
    assert receiver.stdout is not None
    url = receiver.stdout.readline().split()[-1]
    client = CosS3Client(
        CosConfig(
            Region=server.region, SecretId=server.secret_id, SecretKey=server.secret_key, Scheme="http",
            Proxies={"http": server.url},
        )
    )  # fmt: skip
    for form in ("XML", "JSON"):
        client.put_object(Bucket=server.bucket, Key=f"{form}.png", Body=b"any bytes")
        client.ci_create_media_jobs(
            Bucket=server.bucket,
            Jobs={
                "Tag": "ImageOCR", "Input": {"Object": f"{form}.png"}, "Operation": {"ImageOCR": {"Type": "general"}},
                "CallBack": url, "CallBackFormat": form,
            },
            Lst={},
        )  # fmt: skip
        assert receiver.stdout.readline() == f"{form}.png: Plow the fields at noon / Every grain is hard-earned\n"

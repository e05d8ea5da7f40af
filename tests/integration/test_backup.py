"""A backup of a running server, restored elsewhere, is the same server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qcloud_cos import CosConfig, CosS3Client

from cloudfinite.testing import Server


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudfinite.cli", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def client_of(server: Server) -> CosS3Client:
    return CosS3Client(
        CosConfig(
            Region=server.region, SecretId=server.secret_id, SecretKey=server.secret_key, Scheme="http",
            Proxies={"http": server.url},
        )
    )  # fmt: skip


def test_a_backup_taken_while_running_restores_jobs_objects_and_keys(tmp_path: Path) -> None:
    with Server(ocr_engine="fixed", workers=1) as server:
        client = client_of(server)
        client.put_object(Bucket=server.bucket, Key="a/b.png", Body=b"before")
        job = client.ci_create_media_jobs(
            Bucket=server.bucket,
            Jobs={"Tag": "ImageOCR", "Input": {"Object": "a/b.png"}, "Operation": {"ImageOCR": {"Type": "fast"}}},
            Lst={},
        )["JobsDetail"][0]["JobId"]
        made = run("backup", str(tmp_path / "copy"), "--data", str(server.data))
        assert made.returncode == 0, made.stderr
        client.put_object(Bucket=server.bucket, Key="a/b.png", Body=b"after")
        again = run("backup", str(tmp_path / "copy"), "--data", str(server.data))
        assert again.returncode == 1 and "exists already" in again.stderr
        in_use = run("restore", str(tmp_path / "copy"), "--data", str(server.data))
        assert in_use.returncode == 2 and "belongs to the running process" in in_use.stderr
    restored = run("restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
    assert restored.returncode == 0, restored.stderr
    with Server(data=tmp_path / "new", ocr_engine="fixed", workers=1) as server:
        client = client_of(server)
        body = client.get_object(Bucket=server.bucket, Key="a/b.png")["Body"].get_raw_stream().read()
        assert body == b"before"
        assert client.ci_get_media_jobs(Bucket=server.bucket, JobIDs=job)["JobsDetail"][0]["JobId"] == job


def test_a_folder_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    refused = run("restore", str(tmp_path), "--data", str(tmp_path / "new"))
    assert refused.returncode == 2 and "no backup" in refused.stderr

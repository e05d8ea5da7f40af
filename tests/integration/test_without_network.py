"""Nothing is fetched and nobody is told: all works where there is no network at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.operations.pages import LINES

pytestmark = [pytest.mark.real_engine, pytest.mark.sdk]
ROOT = Path(__file__).parents[2]


def empty_namespace() -> list[str]:
    """The command that starts another in a network namespace of its own; skips where the system does not allow it."""
    command = (
        ["unshare", "--net"] if os.name == "posix" and os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    )
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no network namespace")
    return command


def test_server_reads_and_calls_back_without_a_network() -> None:
    answer = subprocess.run(
        [*empty_namespace(), sys.executable, "-m", "tests.support.without_network"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert answer.stdout.splitlines() == list(LINES), answer.stderr[-2000:]

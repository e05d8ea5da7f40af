"""Makes .venv from a hashed lock file: with uv when it is on PATH, else with pip alone. Standard library only.

Usage: python3 tools/environment.py LOCKFILE STAMP
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LEAST = (3, 11)


def main() -> int:
    if sys.version_info < LEAST:
        version = ".".join(map(str, sys.version_info[:3]))
        return fail(f"cloudfinite needs Python 3.11 or newer; this is {version}. Try: make PY=python3.12 …")
    lock, stamp = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = len(re.findall(r"^[a-z0-9][^ =]*==", lock.read_text(), re.MULTILINE))
    started = time.monotonic()
    uv = shutil.which("uv")
    if not PYTHON.exists() and (problem := make_venv(uv)):
        return fail(problem)
    pip = [uv, "pip"] if uv else pip_command()
    target = ["--python", str(PYTHON)] if uv else []
    install = [*pip, "install", *target, "--require-hashes", "-r", str(lock)]
    own = [*pip, "install", *target, "--no-deps", "--no-build-isolation", "-e", "."]
    for command, count in ((install, wanted), (own, 0)):
        if not run_with_progress(command, count):
            return fail(f"installing failed; the last lines above say why. The command was: {' '.join(command)}")
    stamp.touch()
    say(f"environment ready: {wanted} packages by {'uv' if uv else 'pip'} in {time.monotonic() - started:.0f} s\n")
    return 0


def make_venv(uv: str | None) -> str:
    """Make the environment; returns what to tell the user when that is impossible."""
    if uv:
        command = [uv, "venv", "--quiet", "--python", sys.executable, str(VENV)]
    elif importlib.util.find_spec("ensurepip"):
        command = [sys.executable, "-m", "venv", str(VENV)]
    elif importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "venv", "--without-pip", str(VENV)]
    else:
        return (
            "this Python has no ensurepip, so it cannot make an environment. On Debian and Ubuntu:\n"
            "    sudo apt-get install python3-venv"
        )
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (result.stderr or result.stdout).strip()
    return "" if result.returncode == 0 else f"the environment cannot be made: {said}"


def pip_command() -> list[str]:
    """The environment's own pip, else the system's working on the environment."""
    probe = subprocess.run([str(PYTHON), "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(PYTHON)]


def run_with_progress(command: list[str], wanted: int) -> bool:
    """Run an installer; show how far it is, and its last lines when it fails."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    lines: list[str] = []
    seen: set[str] = set()
    shown_at = 0.0
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if match := re.match(r"\s*(?:Collecting|Requirement already satisfied:|\+) ?([A-Za-z0-9._-]+)", line):
            seen.add(match[1])
        if time.monotonic() - shown_at > (0.2 if sys.stdout.isatty() else 5):
            shown_at = time.monotonic()
            what = f"packages: {min(len(seen), wanted)} of {wanted}" if wanted else "cloudfinite itself"
            say(f"installing {what} …", is_last=False)
    if process.wait() == 0:
        return True
    sys.stdout.write("\n" + "".join(lines[-15:]))
    return False


def say(text: str, *, is_last: bool = True) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\033[K{text}")
    else:
        sys.stdout.write(text if is_last else text + "\n")
    sys.stdout.flush()


def fail(problem: str) -> int:
    sys.stderr.write(f"\n{problem}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())

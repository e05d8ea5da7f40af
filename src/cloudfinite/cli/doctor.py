"""`cloudfinite doctor`: whether this machine can run the server, and what to do where it cannot. Needs no server."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any

import typer

from cloudfinite.adapters import ocr
from cloudfinite.cli.output import Output
from cloudfinite.errors import CloudfiniteError, SetupError
from cloudfinite.settings import Settings, read_settings

_LEAST_PYTHON = (3, 11)
_LEAST_FILES = 4_096  # sockets of clients and receivers, object files, the database
_LEAST_FREE_BYTES = 2 * 1024**3
_TESSERACT_WAIT_S = 10

# (module, distribution): those that carry compiled code or are chosen by platform are the ones that break.
_LIBRARIES = (
    ("aiohttp", "aiohttp"),
    ("lxml.etree", "lxml"),
    ("sqlalchemy", "sqlalchemy"),
    ("psycopg", "psycopg"),
    ("cryptography.fernet", "cryptography"),
    ("fastcrc", "fastcrc"),
    ("PIL.Image", "pillow"),
    ("pypdfium2", "pypdfium2"),
    ("cv2", "opencv-python"),
)


class DoctorFoundProblems(CloudfiniteError):
    """Something is wrong with this machine's set-up; each problem says what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, what was found, and what to do when it is not."""

    name: str
    is_ok: bool
    found: str
    advice: str = ""


def doctor(
    data: Annotated[Path | None, typer.Option(help="Data folder to look at")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON")] = False,
) -> None:
    """Check Python, libraries, OCR engine, data folder, port and limits; exits 1 when something is wrong."""
    settings = read_settings(config, data=data)
    findings = list(examine(settings))
    modes, languages = engine_table(), language_table()
    out = Output(as_json=as_json)
    answer = {"findings": [asdict(finding) for finding in findings], "modes": modes, "languages": languages}
    out.show(answer, lambda: _print(out, findings, modes, languages))
    if not all(finding.is_ok for finding in findings):
        raise DoctorFoundProblems


def _print(
    out: Output, findings: list[Finding], modes: Mapping[str, Mapping[str, Any]], languages: Mapping[str, str]
) -> None:
    rows = [("ok" if one.is_ok else "PROBLEM", one.name, one.found, one.advice) for one in findings]
    out.table(("", "WHAT", "FOUND", "WHAT TO DO"), rows, empty="")
    out.line("")
    columns = tuple(next(iter(modes.values()), {}))
    table = [(mode, *(options[column] for column in columns)) for mode, options in modes.items()]
    out.table(("OCR TYPE", *(column.upper().replace("_", " ") for column in columns)), table, empty="")
    out.line("")
    out.table(("LANGUAGE", "READ BY"), languages.items(), empty="")


def examine(settings: Settings) -> Iterator[Finding]:
    """All checks, the quick ones first."""
    yield _python()
    yield from _libraries()
    yield _file_limit()
    yield _data_folder(settings.data)
    yield _free_space(settings.data)
    yield _port(settings)
    if settings.database:
        yield _database(settings)
    yield _tesseract()
    yield _engine(settings)


def engine_table() -> dict[str, dict[str, Any]]:
    """What each `Type` of an ImageOCR job means; empty where the engine's libraries are broken."""
    try:
        return ocr.engine_table()
    except ImportError:
        return {}


def language_table() -> dict[str, str]:
    """What reads each `LanguageType` here; empty where the engine's libraries are broken."""
    try:
        return ocr.language_table()
    except ImportError:
        return {}


def _python() -> Finding:
    is_ok = sys.version_info >= _LEAST_PYTHON
    advice = "" if is_ok else f"install Python {'.'.join(map(str, _LEAST_PYTHON))} or later"
    return Finding("Python", is_ok, f"{sys.version.split()[0]} at {sys.executable}", advice)


def _libraries() -> Iterator[Finding]:
    for module, distribution in _LIBRARIES:
        problem = _import_problem(module)
        yield Finding(
            module.partition(".")[0],
            not problem,
            problem or _version(distribution),
            f"install {distribution} again; its message names what the system lacks" if problem else "",
        )


def _import_problem(module: str) -> str:
    try:
        importlib.import_module(module)
    except ImportError as exc:
        return str(exc)
    return ""


def _version(distribution: str) -> str:
    try:
        return package_version(distribution)
    except PackageNotFoundError:
        return "installed"


def _file_limit() -> Finding:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_ok = limit == resource.RLIM_INFINITY or limit >= _LEAST_FILES
    advice = "" if is_ok else f"raise it: ulimit -n {16 * _LEAST_FILES}, or LimitNOFILE= of the service"
    return Finding("open files", is_ok, f"at most {limit}", advice)


def _data_folder(data: Path) -> Finding:
    place = _existing(data)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as exc:
        return Finding(
            "data folder", False, f"{place}: {exc.strerror}", "make it writable, or name another with --data"
        )
    return Finding("data folder", True, f"{data} {'is writable' if place == data else 'can be made'}")


def _existing(path: Path) -> Path:
    """The path, else its nearest parent that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _free_space(data: Path) -> Finding:
    free = shutil.disk_usage(_existing(data)).free
    is_ok = free >= _LEAST_FREE_BYTES
    advice = "" if is_ok else "a full disk refuses objects and jobs; free some space, or name another --data"
    return Finding("disk", is_ok, f"{free / 1024**3:.1f} GiB free", advice)


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as exc:
        if _own_server(settings):
            return Finding("port", True, f"{where} is taken by the server of this data folder")
        return Finding("port", False, f"{where}: {exc.strerror}", "give another --port, or --port 0 for a free one")
    return Finding("port", True, f"{where} is free")


def _own_server(settings: Settings) -> bool:
    try:
        return (settings.data / "address").read_text().strip().endswith(f":{settings.port}")
    except OSError:
        return False


def _database(settings: Settings) -> Finding:
    import psycopg

    try:
        with psycopg.connect(settings.database.replace("+psycopg", "", 1), connect_timeout=5) as connection:
            version = connection.info.server_version
    except psycopg.Error as exc:
        reason = str(exc).strip().splitlines()[0]
        return Finding("PostgreSQL", False, reason, "check the setting database, and that the database is up")
    return Finding("PostgreSQL", True, f"version {version // 10_000}.{version % 10_000}")


def _tesseract() -> Finding:
    """Nothing needs it; where it is installed, its languages are told."""
    program = shutil.which("tesseract")
    if program is None:
        return Finding("Tesseract", True, "not installed; rapidocr alone reads no Korean, Russian, Thai, Hindi, Arabic")
    try:
        answer = subprocess.run(
            [program, "--list-langs"], capture_output=True, text=True, timeout=_TESSERACT_WAIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        return Finding("Tesseract", False, f"{program}: {exc}", "install it again, or take it away")
    languages = answer.stdout.split("\n")[1:]
    return Finding("Tesseract", True, " ".join(filter(None, languages)) or "no languages installed")


def _engine(settings: Settings) -> Finding:
    """Build the engine as a child process would, and let it read something known."""
    from cloudfinite.adapters.ocr import build_engine
    from cloudfinite.errors import JobFailed
    from cloudfinite.ports import EngineSpec

    name = f"OCR engine {settings.ocr_engine}"
    try:
        build_engine(EngineSpec(settings.ocr_engine, settings.ocr_options)).warm_up()
    except SetupError as exc:
        return Finding(name, False, exc.message, exc.advice or "check the settings ocr_engine and ocr_options")
    except (JobFailed, ImportError, OSError) as exc:
        return Finding(name, False, str(exc), "install its packages again")
    return Finding(name, True, f"reads a known picture, with {os.cpu_count()} cores here")

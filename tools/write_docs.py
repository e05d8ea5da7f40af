"""Writes what of the documentation is made from the code: settings, commands, coverage, the map, the job's states.

    python tools/write_docs.py            write them anew
    python tools/write_docs.py --check    exit 1 naming each file that is stale

Whole pages: docs/settings.md, docs/commands.md, docs/coverage.md. Between markers `<!-- name:start -->` and
`<!-- name:end -->`: the coverage table of README.md, the actions of docs/access.md, the
map and the states of docs/architecture.md.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from typer.main import get_command

from cloudfinite.cli import app
from cloudfinite.domain.access import READ_ONLY, Action, Scope, read_policy
from cloudfinite.domain.job import TRANSITIONS, JobState
from cloudfinite.operations import operations
from cloudfinite.settings import setting_rows
from cloudfinite.web.routes import TABLE, Row, coverage
from cloudfinite.wire.tags import KNOWN_TAGS

ROOT = Path(__file__).parents[1]
COMMAND = "make docs"


# --- what only people know ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Area:
    """A product area of the vendor's navigation.

    state: full, partial or absent. works, missing: for users, in a few words. calls: its name in the table of routes,
    where that differs; "" when the area has no calls of its own.
    """

    name: str
    state: str
    works: str = ""
    missing: str = ""
    calls: str | None = None

    @property
    def route_area(self) -> str:
        return self.name if self.calls is None else self.calls


AREAS = (
    Area(
        "Image Processing",
        "partial",
        "job `PicProcess` with `imageMogr2` rules and pipes (docs/wire/pictures.md)",
        "animations beyond their first frame, `scrop`, `size-limit`, `ignore-error`; watermarks, imageView2, styles, "
        "processing at upload and download, ImageInspect, …",
    ),
    Area("Media Processing", "absent", "", "everything: Transcode, Snapshot, MediaInfo, …"),
    Area("Content Moderation", "absent", "", "everything"),
    Area(
        "AI Content Recognition",
        "partial",
        "text recognition (OCR), as job `ImageOCR` and as synchronous call `ci-process=OCR`",
        "Korean, Cyrillic, Thai, Arabic and Hindi without an installed Tesseract and its data; all other recognition",
    ),
    Area(
        "File Processing",
        "partial",
        "job `FileHashCode` (MD5, SHA-1, SHA-256)",
        "`AddToHeader` of FileHashCode; FileCompress, FileUncompress; the synchronous calls",
    ),
    Area("Smart Audio", "absent", "", "everything: SpeechRecognition, Tts, …"),
    Area("Document Processing", "absent", "", "everything: previews, DocProcess (OCR of a PDF page works)"),
    Area("Cloud Virus Detection", "absent", "", "everything"),
    Area(
        "Job and Workflow",
        "partial",
        "submit, describe, list and cancel jobs; queues with pause, limits and notification; templates for `ImageOCR` "
        "and `PicProcess`; workflows of all operations that run here, started by uploads and by hand, and their "
        "executions (docs/workflows.md); batch jobs by prefix, object, URL file and inventory (docs/wire/batches.md); "
        "callbacks `TaskFinish` and `WorkflowFinish` in XML and JSON",
        "nodes of workflows without an operation here (SCF, Condition, …), callbacks by TDMQ or Kafka",
    ),
    Area(
        "Bucket Management",
        "partial",
        "binding; services are opened, listed and closed per bucket; the buckets of the settings are made at start",
        "image search, the list of all bound buckets",
    ),
    Area(
        "Permission Management",
        "partial",
        "key pairs with policies (buckets, key prefixes, the vendor's actions), temporary credentials, buckets that "
        "anybody may read (docs/access.md); the console has its own token",
        "conditions and explicit denials, bucket policies, ACLs of objects and for single accounts",
        calls="",
    ),
    Area(
        "Data Monitoring and usage statistics",
        "partial",
        "`/-/health`, `/-/ready`, Prometheus figures at `/-/metrics`, the console's pages; jobs per minute, bucket, "
        "queue and tag at `/-/api/v1/stats`",
        "traffic and storage figures, alarms",
        calls="",
    ),
    Area(
        "Error Codes",
        "partial",
        "codes, statuses and both error documents for all that is built (docs/wire/errors.md)",
        "codes of calls that are not built",
        calls="",
    ),
    Area(
        "Request Signature",
        "full",
        "in the header, presigned, and merged as `sign=` (docs/wire/signature.md)",
        calls="",
    ),
    Area(
        "SDKs",
        "partial",
        "Python, Node and JavaScript (in a browser) run in the tests unchanged; requests recorded from Go are "
        "replayed; how to point each SDK here: docs/sdks.md",
        "tests that run Go or Java; other SDKs are untried",
        calls="",
    ),
    Area(
        "Object Storage (COS)",
        "partial",
        "objects with metadata, ranges, conditions, ETag and CRC-64; multipart upload, append, uploads by form, copy, "
        "lists, deleting many; buckets are made, listed and deleted; CORS rules; upload events; ours, for S3 clients: "
        "list version 2, location",
        "versions, tags, access lists, and the other settings of buckets and objects",
        calls="Object Storage",
    ),
)
"""In the order of the vendor's navigation; the object store behind it last."""

SHARED_OPTIONS = frozenset({"--json", "--data", "--config", "--server", "--token"})
"""Those of every command that talks to a server."""

NO_CALLS = frozenset({"GET /*?ci-process"})
"""Rows that only say which calls there are."""

SHOWN_CALLS = 3
SCOPES: Mapping[Scope, str] = {
    Scope.ACCOUNT: "all buckets; lists what the key sees",
    Scope.BUCKET: "the whole bucket",
    Scope.LISTING: "the `prefix` asked for",
    Scope.OBJECT: "the object's key",
    Scope.EACH: "each object, or job by its input",
}
"""What the documentation calls them."""

TAG_NOTES: Mapping[str, str] = {
    "ImageOCR": "all five types; options as the vendor's page says",
    "FileHashCode": "`AddToHeader` ends the job Failed",
}


# --- the pages -----------------------------------------------------------------------------------------------------


def settings_page() -> str:
    groups: dict[str, list[str]] = {}
    for name, field in setting_rows():
        extra: Any = field.json_schema_extra
        cells = (
            f"`{name}`",
            f"`--{name.replace('_', '-')}`",
            f"`CLOUDFINITE_{name.upper()}`",
            _default(field.default),
            extra["unit"],
            escape(field.description or "", quote=False),
        )
        groups.setdefault(extra["group"], []).append(_row(*cells))
    parts = [
        "# Settings",
        _made(),
        "A value is taken from the command line, else from the environment, else from a TOML file, else it is the "
        "default. The TOML file is the one named by `--config`, else `cloudfinite.toml` in the current folder; its "
        "keys are the names below. On the command line and in the environment lists are written `a, b`, tables "
        "`name=value, name=value` or as JSON.",
    ]
    for group, rows in groups.items():
        head = _row("name", "option", "environment", "default", "unit", "meaning")
        parts += [f"## {group.capitalize()}", "\n".join([head, _row(*["---"] * 6), *rows])]
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    parts = [
        "# Commands",
        _made(),
        f"All but {_listed(_local_commands())} talk to a running server through its JSON API: the one of the data "
        "folder (`--data`, else that of the settings), or another with `--server` and `--token`. `--json` prints the "
        "API's answer. Exit codes: 0 done; 1 refused, or something is wrong; 2 wrong usage or settings, or no server "
        "runs. "
        "`cloudfinite COMMAND --help` explains every option.",
        "\n".join([_row("command", "does", "options"), _row(*["---"] * 3), *_command_rows("cloudfinite", _commands())]),
    ]
    return "\n\n".join(parts) + "\n"


def _local_commands() -> list[str]:
    """Those that talk to no server."""
    return [
        f"`{name}`"
        for name, item in _commands().commands.items()
        if not hasattr(item, "commands")
        and "--server" not in [option for param in item.params for option in param.opts]
    ]


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _commands() -> Any:
    return get_command(app)


def _command_rows(prefix: str, command: Any) -> Iterator[str]:
    for name, item in command.commands.items():
        if hasattr(item, "commands"):
            yield from _command_rows(f"{prefix} {name}", item)
            continue
        arguments = [
            param.metavar or param.name.upper() for param in item.params if param.param_type_name == "argument"
        ]
        told = [word for param in item.params if param.param_type_name == "option" for word in _words(param)]
        if "--server" in told:
            told = [option for option in told if option not in SHARED_OPTIONS]
        options = (
            "[one per setting](settings.md), `--config`" if name == "serve" else ", ".join(f"`{one}`" for one in told)
        )
        yield _row(f"`{' '.join([prefix, name, *arguments])}`", (item.help or "").strip().split("\n\n")[0], options)


def _words(option: Any) -> list[str]:
    """The option, and its opposite where neither is the default."""
    return [option.opts[0], *(option.secondary_opts if option.default is None else ())]


def coverage_page() -> str:
    calls = coverage()
    parts = [
        "# Coverage",
        _made(),
        "What of the vendor's product runs here. **full**: all of the area's calls. **partial**: what the table says. "
        "**absent**: a call or tag that we know answers 501 `NotImplemented`, one that nobody knows 400 or 404.",
        coverage_table(),
        "## Job tags",
        _tag_table(),
        "## Calls",
        "Each call once, as `METHOD /path`; `{id}` and `{key}` stand for one value, `name*` for a parameter that "
        "starts so. The hosts in brackets are the only ones where the call means this.",
    ]
    for area, rows in calls.items():
        parts += [f"### {area}", *_calls(rows)]
    return "\n\n".join(parts) + "\n"


def coverage_table() -> str:
    rows = [_row("area", "state", "what runs", "what is missing"), _row(*["---"] * 4)]
    rows += [_row(area.name, f"**{area.state}**", area.works, area.missing) for area in AREAS]
    return "\n".join(rows)


def contradictions() -> list[str]:
    """Areas whose state in the table above is not what registry and routes say; one sentence each."""
    calls = coverage()
    told = []
    for area in AREAS:
        known = calls.get(area.route_area, [])
        tags = [tag for tag, operation in operations().items() if operation.area == area.name]
        built = [row.title for row in known if row.handler]
        if area.state == "absent" and (built or tags):
            told.append(f"{area.name} is said to be absent, but has {', '.join(built + tags)}")
        if area.state == "partial" and area.route_area and not built and not tags:
            told.append(f"{area.name} is said to be partial, but nothing of it is built")
        if area.state == "full" and len(built) < len(known):
            told.append(f"{area.name} is said to be full, but has {len(known) - len(built)} calls that are not built")
    return told


def _tag_table() -> str:
    built = operations()
    areas = {**KNOWN_TAGS, **{tag: operation.area for tag, operation in built.items()}}
    rows = [_row("tag", "area", "state", "note"), _row(*["---"] * 4)]
    for tag, area in sorted(areas.items(), key=lambda item: (item[0] not in built, item[1], item[0])):
        rows.append(_row(f"`{tag}`", area, "**runs**" if tag in built else "501", TAG_NOTES.get(tag, "")))
    return "\n".join(rows)


def _calls(rows: Iterable[Row]) -> Iterator[str]:
    rows = list(rows)
    for title, is_built in (("Built", True), ("Known, answering 501", False)):
        titles = [f"`{row.title}`" for row in rows if bool(row.handler) is is_built and row.title not in NO_CALLS]
        if titles:
            yield f"{title}: " + " · ".join(titles)


def action_table() -> str:
    read_only = read_policy([{"actions": [READ_ONLY]}])
    rows = [_row("action", "about", "calls", READ_ONLY), _row(*["---"] * 4)]
    for action in Action:
        titles = list(dict.fromkeys(f"`{row.title}`" for row in TABLE if row.action is action))
        if len(titles) > SHOWN_CALLS:
            titles = [*titles[:SHOWN_CALLS], f"and {len(titles) - SHOWN_CALLS} more"]
        if titles:
            is_reading = bool(read_only.prefixes(action, ""))
            rows.append(_row(f"`{action.wire}`", SCOPES[action.scope], ", ".join(titles), "yes" if is_reading else ""))
    return "\n".join(rows)


def states_diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {JobState.SUBMITTED}"]
    for old, following in TRANSITIONS.items():
        lines += [f"    {old} --> {new}" for new in sorted(following)]
    lines += [f"    {state} --> [*]" for state in JobState if state.is_final]
    return "\n".join([*lines, "```"])


def module_map() -> str:
    """One line per module: what its first sentence says."""
    package = ROOT / "src" / "cloudfinite"
    folders = [package, *sorted(path for path in package.rglob("*") if path.is_dir())]
    lines = []
    for folder in folders:
        modules = [path for path in sorted(folder.glob("*.py")) if "migrations" not in path.parts]
        told = [(path, _first_sentence(path)) for path in modules if path.name != "__init__.py"]
        if not told:
            continue
        where = folder.relative_to(package.parent)
        head = _first_sentence(folder / "__init__.py")
        lines.append(f"{where}/" + (f"  {head}" if head else ""))
        width = max(len(path.name) for path, _ in told)
        lines += [f"  {path.name:<{width}}  {sentence}" for path, sentence in told]
    return "\n".join(["```", *lines, "```"])


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".:")


# --- words ---------------------------------------------------------------------------------------------------------


def _made() -> str:
    return f"<!-- Made by `{COMMAND}`; edit tools/write_docs.py or the code it reads, not this page. -->"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


# --- writing -------------------------------------------------------------------------------------------------------


def between(text: str, name: str, content: str, where: str) -> str:
    """`text` with `content` between the markers of `name`. Raises ValueError when they are not there once."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{where} needs the markers {start} and {end} once each")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{content}\n{end}{after}"


PAGES: Mapping[str, Callable[[], str]] = {
    "docs/settings.md": settings_page,
    "docs/commands.md": commands_page,
    "docs/coverage.md": coverage_page,
}
PARTS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("README.md", "coverage"): coverage_table,
    ("docs/access.md", "actions"): action_table,
    ("docs/architecture.md", "map"): module_map,
    ("docs/architecture.md", "states"): states_diagram,
}


def wanted_files(root: Path) -> dict[str, str]:
    """What each file that has generated parts should hold."""
    files = {name: page() for name, page in PAGES.items()}
    for (name, marker), content in PARTS.items():
        text = files.get(name) or (root / name).read_text()
        files[name] = between(text, marker, content(), name)
    return files


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the files below `root`; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 naming what is stale")
    is_check = parser.parse_args(arguments).check
    is_stale = False
    for name, text in wanted_files(root).items():
        path = root / name
        if path.exists() and path.read_text() == text:
            continue
        is_stale = True
        if is_check:
            sys.stderr.write(f"{name} is stale; `{COMMAND}` writes it anew\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"written: {name}")
    return 1 if is_check and is_stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The generated pages are those of the code, and what people wrote into them does not contradict it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools.write_docs import (
    AREAS,
    NO_CALLS,
    ROOT,
    between,
    commands_page,
    contradictions,
    coverage_page,
    main,
    settings_page,
)
from typer.main import get_command

from cloudfinite.cli import app
from cloudfinite.domain.job import TRANSITIONS
from cloudfinite.operations import operations
from cloudfinite.settings import setting_rows
from cloudfinite.web.routes import coverage
from cloudfinite.wire.tags import KNOWN_TAGS

# Wire: "Task Callback" (OCR), the navigation beside the page.
NAVIGATION = (
    "Image Processing", "Media Processing", "Content Moderation", "AI Content Recognition", "File Processing",
    "Smart Audio", "Document Processing", "Cloud Virus Detection", "Job and Workflow", "Bucket Management",
    "Permission Management", "Data Monitoring and usage statistics", "Error Codes", "Request Signature", "SDKs",
)  # fmt: skip


def test_every_page_is_current() -> None:
    # In a process of its own: other tests' modules register tags that are not the product's.
    check = subprocess.run(
        [sys.executable, "tools/write_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    main([], tmp_path)
    return tmp_path


def test_stale_file_is_named_and_left_as_it_is(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = copy / "docs" / "settings.md"
    page.write_text(stale := page.read_text().replace("`port`", "`prot`"))
    capsys.readouterr()
    assert main(["--check"], copy) == 1
    assert capsys.readouterr().err.split()[0] == "docs/settings.md"
    assert page.read_text() == stale


def test_writing_twice_changes_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([], copy) == 0
    assert capsys.readouterr().out == ""


def test_lost_marker_is_told() -> None:
    with pytest.raises(ValueError, match=r"README\.md needs the markers"):
        between("no markers here", "coverage", "", "README.md")


@pytest.mark.parametrize("name", [name for name, _ in setting_rows()])
def test_setting_is_documented_with_option_variable_and_meaning(name: str) -> None:
    [row] = [line for line in settings_page().splitlines() if line.startswith(f"| `{name}` ")]
    assert f"`--{name.replace('_', '-')}`" in row and f"`CLOUDFINITE_{name.upper()}`" in row
    assert row.split("|")[-2].strip()


def test_every_command_is_documented() -> None:
    top = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert {name for name in top if f"| `cloudfinite {name}" not in commands_page()} == set()


def test_both_halves_of_a_switch_without_default_are_documented() -> None:
    [row] = [line for line in commands_page().splitlines() if line.startswith("| `cloudfinite target ")]
    assert "`--pause`, `--resume`" in row


def test_secrets_have_no_default() -> None:
    """A page that printed one would be found on servers."""
    fields = dict(setting_rows())
    assert {fields[name].default for name in ("secret_key", "encryption_key", "admin_token", "callback_secret")} == {""}


def test_every_tag_is_listed_with_its_state() -> None:
    rows = {line.split("`")[1]: line for line in coverage_page().splitlines() if line.startswith("| `")}
    assert rows.keys() == {*KNOWN_TAGS, *operations()}
    assert {tag for tag, row in rows.items() if "**runs**" in row} == set(operations())


def test_every_call_is_listed() -> None:
    page = coverage_page()
    titles = {row.title for rows in coverage().values() for row in rows} - NO_CALLS
    assert {title for title in titles if f"`{title}`" not in page} == set()


def test_areas_are_those_of_the_vendors_navigation() -> None:
    assert tuple(area.name for area in AREAS)[: len(NAVIGATION)] == NAVIGATION


def test_no_area_claims_what_registry_and_routes_deny() -> None:
    assert contradictions() == []


def test_every_area_that_is_not_full_says_what_is_missing() -> None:
    assert [area.name for area in AREAS if (area.state != "full") != bool(area.missing)] == []


def test_diagram_has_every_transition() -> None:
    diagram = (ROOT / "docs" / "architecture.md").read_text()
    pairs = [(old, new) for old, following in TRANSITIONS.items() for new in following]
    assert [pair for pair in pairs if f"    {pair[0]} --> {pair[1]}\n" not in diagram] == []

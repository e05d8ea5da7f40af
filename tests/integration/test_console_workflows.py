"""The console's pages of workflows and runs as a browser asks for them: over sockets, on a real store."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.console_harness import BUCKET, REGION, Desk, served_console
from tests.support.workflow_bodies import workflow_request

from cloudfinite.domain.execution import Execution
from cloudfinite.domain.workflow import Workflow

CHAIN = {
    "Start": "PicProcess_1,FileHashCode_1",
    "PicProcess_1": "ImageOCR_1",
    "FileHashCode_1": "End",
    "ImageOCR_1": "End",
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with served_console(tmp_path) as desk:
        yield desk


async def make(desk: Desk, name: str = "turn-and-read") -> Workflow:
    return await desk.workflows.create_workflow(BUCKET, workflow_request(CHAIN, BUCKET, REGION, name=name))


async def run(desk: Desk, workflow: Workflow, key: str = "in/a <b>.png") -> Execution:
    return await desk.runs.start_run(BUCKET, workflow.id, key)


def boxes(page: str) -> list[tuple[str, str, str]]:
    """(state, name, note) of each box in the graph."""
    pattern = r'class="step s-(\w*)".*?class="name"[^>]*>([^<]*)<.*?class="note"[^>]*>([^<]*)<'
    return re.findall(pattern, page)


async def test_page_without_workflows_says_how_to_make_one(desk: Desk) -> None:
    assert "There are no workflows yet." in await desk.page("/-/console/workflows/")


async def test_workflows_are_listed_newest_first_and_found_by_name(desk: Desk) -> None:
    for name in ("one", "two"):
        await make(desk, name)
    page = await desk.page("/-/console/workflows/")
    assert re.findall(r"data-row>([^<]+)<", page) == ["two", "one"]
    assert "PicProcess, FileHashCode, ImageOCR" in page
    assert re.findall(r"data-row>([^<]+)<", await desk.page("/-/console/workflows/?name=on")) == ["one"]


async def test_workflow_page_draws_its_graph_and_lists_its_runs(desk: Desk) -> None:
    workflow = await make(desk)
    execution = await run(desk, workflow)
    page = await desk.page(f"/-/console/workflows/{workflow.id}")
    assert [box[1:] for box in boxes(page)] == [
        ("Start", "in/"),
        ("PicProcess_1", "PicProcess"),
        ("FileHashCode_1", "FileHashCode"),
        ("ImageOCR_1", "ImageOCR"),
    ]
    assert page.count('class="link"') == 3
    assert f'href="/-/console/runs/{execution.id}" data-row>in/a &lt;b&gt;.png<' in page
    assert "No run is Failed." in await desk.page(f"/-/console/workflows/{workflow.id}?state=Failed")


async def test_run_page_draws_each_step_as_it_stands(desk: Desk) -> None:
    execution = await run(desk, await make(desk))
    page = await desk.page(f"/-/console/runs/{execution.id}")
    assert boxes(page) == [
        ("start", "Start", "in/a &lt;b&gt;.png"),
        ("submitted", "PicProcess_1", "Submitted"),
        ("submitted", "FileHashCode_1", "Submitted"),
        ("waits", "ImageOCR_1", "not started"),
    ]
    assert len(re.findall(r'href="/-/console/jobs/\w+"><g class="step', page)) == 2
    assert "&lt;WorkflowExecution&gt;" in page


async def test_running_run_is_cancelled_by_its_button(desk: Desk) -> None:
    execution = await run(desk, await make(desk))
    address = f"/-/console/runs/{execution.id}"
    assert f'action="{address}/cancel"' in await desk.page(address)
    assert (await desk.post(f"{address}/cancel")).status == 303
    page = await desk.page(address)
    assert [state for state, _, _ in boxes(page)] == ["start", "cancel", "cancel", "skipped"]
    assert "/cancel" not in page and "A cancelled run sends none." in page


async def test_job_page_leads_to_its_run(desk: Desk) -> None:
    execution = await run(desk, await make(desk))
    _, [task, *_] = await desk.runs.show_run(BUCKET, execution.id)
    page = await desk.page(f"/-/console/jobs/{task.run.job_id}")
    assert f'<a href="/-/console/runs/{execution.id}">PicProcess_1</a>' in page


@pytest.mark.parametrize("path", ["workflows/w1", "runs/i1", "workflows/w1/more"])
async def test_pages_of_what_does_not_exist_say_so(desk: Desk, path: str) -> None:
    assert (await desk.get(f"/-/console/{path}")).status == 404

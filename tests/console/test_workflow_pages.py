"""The pages of workflows and runs in a real Chromium: they fit any window, and follow their runs.

Set CLOUDFINITE_SCREENSHOTS to a folder to keep a picture of each page in both colour schemes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.console.browser import Page, browser_page, find_chromium
from tests.console.test_pages import _CONTRAST, _keep_picture
from tests.console_harness import BUCKET, HOSTILE, REGION, Desk, served_console
from tests.support.workflow_bodies import workflow_request

from cloudfinite.domain.execution import Execution
from cloudfinite.domain.job import Outcome
from cloudfinite.operations import operations
from cloudfinite.ports import Transaction
from cloudfinite.service.jobs import finish_jobs

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed; the pages are not looked at")

GRAPH = {
    "Start": "PicProcess_front,PicProcess_back,FileHashCode_whole",
    "PicProcess_front": "PicProcess_small,ImageOCR_front",
    "PicProcess_back": "ImageOCR_back_of_the_page_with_a_long_name,ImageOCR_front",
    "PicProcess_small": "ImageOCR_small,FileHashCode_small",
    "ImageOCR_front": "End",
    "ImageOCR_back_of_the_page_with_a_long_name": "End",
    "ImageOCR_small": "End",
    "FileHashCode_small": "End",
    "FileHashCode_whole": "End",
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with served_console(tmp_path) as desk:
        yield desk


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with browser_page(PROGRAM) as page:
        await page.look()
        yield page


async def start(desk: Desk, key: str = "in/page 1.png") -> Execution:
    wanted = workflow_request(GRAPH, BUCKET, REGION, name="both-sides-of-every-page")
    workflow = await desk.workflows.create_workflow(BUCKET, wanted)
    return await desk.runs.start_run(BUCKET, workflow.id, key)


async def end_steps(desk: Desk, execution: Execution, **codes: str) -> None:
    """Claim all that waits, and end these steps: with success, or with a code."""

    def work(tx: Transaction) -> None:
        leases, _ = tx.jobs.claim("desk", 1_000, timedelta(minutes=1), "")
        held = {lease.job.step_of.step: lease for lease in leases if lease.job.step_of}
        outcomes = [
            Outcome(held[step], code=code, message="it says why") if code else Outcome(held[step], {})
            for step, code in codes.items()
        ]
        finish_jobs(tx, outcomes, operations())

    await desk.store.run(work)
    desk.feed.publish(execution.id)


async def test_run_page_follows_its_run(desk: Desk, page: Page) -> None:
    execution = await start(desk)
    await page.open(f"{desk.url}/-/console/runs/{execution.id}")
    await page.until("document.querySelector('[data-live-mark]:not([hidden])')")
    assert await page.run("document.querySelectorAll('.graph .s-submitted').length") == 3
    await end_steps(desk, execution, PicProcess_front="", FileHashCode_whole="ResourceNotFound")
    await page.until("document.querySelectorAll('.graph .s-success').length == 1")
    states = "[...document.querySelectorAll('.graph .step')].map(g => g.className.baseVal.slice(7)).join()"
    assert await page.run(states) == "start,success,running,failed,submitted,waits,waits,waits,waits"
    assert await page.run("document.querySelector('#step-FileHashCode_whole .bad').textContent") == (
        "ResourceNotFound: it says why"
    )
    assert not page.complaints


async def test_boxes_of_a_graph_overlap_nowhere(desk: Desk, page: Page) -> None:
    execution = await start(desk)
    await page.open(f"{desk.url}/-/console/runs/{execution.id}")
    overlaps = await page.run(
        "(() => { const all = [...document.querySelectorAll('.graph rect')].map(r => r.getBoundingClientRect());"
        " return all.filter((a, i) => all.some((b, j) => i < j && a.left < b.right && b.left < a.right"
        " && a.top < b.bottom && b.top < a.bottom)).length; })()"
    )
    assert overlaps == 0
    too_wide = await page.run(
        "[...document.querySelectorAll('.graph g')].filter(g => [...g.querySelectorAll('text')].some(t =>"
        " t.getBBox().x + t.getBBox().width > g.querySelector('rect').getBBox().x + 190)).length"
    )
    assert too_wide == 0


async def test_step_leads_to_its_job(desk: Desk, page: Page) -> None:
    execution = await start(desk)
    await page.open(f"{desk.url}/-/console/runs/{execution.id}")
    await page.run("document.querySelector('.graph a').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    await page.until("location.pathname.startsWith('/-/console/jobs/')")


async def test_hostile_key_runs_nowhere(desk: Desk, page: Page) -> None:
    key = "in/" + HOSTILE.removesuffix("\x07")
    execution = await start(desk, key)
    for path in (f"workflows/{execution.workflow_id}", f"runs/{execution.id}"):
        await page.open(f"{desk.url}/-/console/{path}")
        await page.until("document.querySelector('[data-live-mark]:not([hidden])')")
        assert await page.run("document.scripts.length") == 1
        assert await page.run("document.body.innerText.includes('<script>alert(1)')") is True
    assert not page.complaints


@pytest.mark.parametrize("width", [1280, 390])
async def test_no_page_scrolls_sideways_and_all_text_is_readable(desk: Desk, page: Page, width: int) -> None:
    execution = await start(desk)
    await end_steps(desk, execution, PicProcess_front="", FileHashCode_whole="ResourceNotFound")
    await desk.runs.start_run(BUCKET, execution.workflow_id, "in/" + "k" * 800)
    paths = {
        "workflows": "workflows/",
        "workflow": f"workflows/{execution.workflow_id}",
        "run": f"runs/{execution.id}",
    }
    for name, path in paths.items():
        for is_dark in (False, True):
            await page.look(width=width, is_dark=is_dark)
            await page.open(f"{desk.url}/-/console/{path}")
            # Not innerWidth: a phone's grows with what is too wide.
            assert await page.run("document.documentElement.scrollWidth") <= width, name
            assert await page.run(_CONTRAST) == []
            await _keep_picture(page, f"{name}-{width}-{'dark' if is_dark else 'light'}")
    assert not page.complaints

"""The console's pages in a real Chromium: they obey their own policy, live, and can be worked with keys and pointer.

Set CLOUDFINITE_SCREENSHOTS to a folder to keep a picture of each page in both colour schemes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.console.browser import Page, browser_page, find_chromium
from tests.console_harness import HOSTILE, Desk, Line, picture, served_console

from cloudfinite.domain.job import CallbackFormat, Job

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed; the pages are not looked at")

LINES = [
    Line("Plow the fields at noon", 98, (40, 24, 176, 35)),
    Line("Sweat drips onto the soil beneath the crops", 91, (40, 81, 264, 30)),
    Line("Every grain is hard-earned", 55, (39, 181, 165, 34)),
]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with served_console(tmp_path, with_children=True) as desk:
        yield desk


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with browser_page(PROGRAM) as page:
        await page.look()
        yield page


async def read_job(desk: Desk, *lines: Line) -> Job:
    await desk.put("pic/a.png", picture(LINES))
    job = await desk.read_job(lines or LINES)
    await desk.deliver(job, CallbackFormat.XML)
    return job


async def test_list_shows_a_new_job_without_a_reload(desk: Desk, page: Page) -> None:
    await page.open(f"{desk.url}/-/console/")
    await page.until("document.querySelector('[data-live-mark]:not([hidden])')")
    await page.run("window.isSamePage = true")
    job = await desk.submit("arrives.png")
    desk.feed.publish(job.id)
    await page.until(f"document.querySelector('#job-{job.id} .s-submitted')")
    await desk.finish(job, None, code="ResourceNotFound", message="gone")
    await page.until(f"document.querySelector('#job-{job.id} .s-failed')")
    assert await page.run("window.isSamePage") and not page.complaints


async def test_job_page_follows_its_job_to_the_end(desk: Desk, page: Page) -> None:
    await desk.put("pic/a.png", picture(LINES))
    job = await desk.submit()
    await page.open(f"{desk.url}/-/console/jobs/{job.id}")
    await page.until("document.querySelector('[data-live-mark]:not([hidden])')")
    await desk.finish(job, {**_result(), "lines": [line.data() for line in LINES]})
    await page.until("document.querySelectorAll('#all-text li').length == 3")
    assert await page.run("document.title") == "pic/a.png – Success · cloudfinite"
    assert not page.complaints


def _result() -> dict[str, object]:
    return {"angle": "0", "pdf_page_count": 0, "language": "zh"}


async def test_picture_is_shown_with_its_boxes_in_place(desk: Desk, page: Page) -> None:
    job = await read_job(desk)
    await page.open(f"{desk.url}/-/console/jobs/{job.id}")
    size = await page.run(
        "(async () => { const i = new Image(); i.src = document.querySelector('image').href.baseVal;"
        " await i.decode(); return [i.naturalWidth, i.naturalHeight]; })()"
    )
    assert size == [360, 220]
    scale = await page.run("document.querySelector('svg.boxes').getBoundingClientRect().width / 360")
    offset = await page.run(
        "document.querySelector('#box-1').getBoundingClientRect().x"
        " - document.querySelector('svg.boxes').getBoundingClientRect().x"
    )
    assert offset == pytest.approx(40 * scale, abs=2)
    assert not page.complaints


async def test_box_and_line_light_up_together(desk: Desk, page: Page) -> None:
    job = await read_job(desk)
    await page.open(f"{desk.url}/-/console/jobs/{job.id}")
    await page.hover("#line-2")
    await page.until("document.querySelector('#box-2.is-hot')")
    await page.hover("#box-3")
    await page.until("document.querySelector('#line-3.is-hot') && !document.querySelector('#box-2.is-hot')")
    await page.run("document.querySelector('#line-1').focus()")
    await page.until("document.querySelector('#box-1.is-hot')")


async def test_list_is_worked_with_keys(desk: Desk, page: Page) -> None:
    await desk.submit("old.png")
    job = await desk.submit("new.png")
    await page.open(f"{desk.url}/-/console/")
    await page.until("document.querySelector('.keys:not([hidden])')")
    for key in ("j", "j", "k"):
        await page.press(key)
    assert await page.run("document.activeElement.textContent") == "new.png"
    await page.press("/")
    assert await page.run("document.activeElement.name") == "object"
    await page.run("document.activeElement.blur()")
    await page.press("j")
    await page.press("Enter")
    await page.until(f"location.pathname == '/-/console/jobs/{job.id}'")


async def test_buttons_pass_the_same_origin_check(desk: Desk, page: Page) -> None:
    job = await read_job(desk)
    await page.open(f"{desk.url}/-/console/jobs/{job.id}")
    await page.run("document.querySelector('form[action$=replay] button').click()")
    await page.until("location.hash.startsWith('#delivery-')")
    assert desk.replayed == [f"msg-{job.id}"]


async def test_body_as_sent_is_one_key_away(desk: Desk, page: Page) -> None:
    job = await read_job(desk)
    await page.open(f"{desk.url}/-/console/jobs/{job.id}")
    await page.run("document.querySelector('#body-1-2').click()")
    raw = await page.run("document.querySelector('#body-1-second').textContent")
    shown = await page.run("[...document.querySelectorAll('#deliveries .view')].map(v => v.offsetHeight > 0)")
    assert shown == [False, True]
    assert raw.startswith("<Response><EventName>TaskFinish</EventName><JobsDetail>") and "\n" not in raw


async def test_pages_work_without_a_script(desk: Desk, page: Page) -> None:
    job = await read_job(desk)
    await page.send("Emulation.setScriptExecutionDisabled", value=True)
    await page.open(f"{desk.url}/-/console/jobs/{job.id}")
    text = (await page.send("Runtime.evaluate", expression="document.body.innerText"))["result"]["value"]
    assert "Plow the fields at noon" in text and "UTC" in text and "Copy" not in text


async def test_hostile_text_runs_nowhere(desk: Desk, page: Page) -> None:
    await desk.put(HOSTILE.removesuffix("\x07"), picture(LINES))  # Keys hold no control characters.
    job = await desk.read_job([Line(HOSTILE, 90, (1, 1, 40, 20))], HOSTILE.removesuffix("\x07"), user_data=HOSTILE)
    await desk.deliver(job, CallbackFormat.JSON)
    await desk.post("/-/inbox/first", HOSTILE.encode(), site="cross-site")
    for path in ("", f"jobs/{job.id}", "inbox/first"):
        await page.open(f"{desk.url}/-/console/{path}")
        await page.until("document.querySelector('[data-live-mark]:not([hidden])')")
        assert await page.run("document.scripts.length") == 1
        assert await page.run("document.body.innerText.includes('<script>alert(1)')") is True
    assert not page.complaints


@pytest.mark.parametrize("width", [1280, 390])
async def test_no_page_scrolls_sideways(desk: Desk, page: Page, width: int) -> None:
    job = await read_job(desk)
    await desk.post("/-/inbox/first", b"<A>" + b"x" * 5_000 + b"</A>", site="cross-site")
    await desk.submit("k" * 800)
    for name, path in _paths(job).items():
        for is_dark in (False, True):
            await page.look(width=width, is_dark=is_dark)
            await page.open(f"{desk.url}{path}")
            over = await page.run("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"{name} is {over} px too wide at {width}"
            await _keep_picture(page, f"{name}-{width}-{'dark' if is_dark else 'light'}")
    assert not [text for text in page.complaints if "username" not in text]


def _paths(job: Job) -> dict[str, str]:
    return {
        "jobs": "/-/console/",
        "job": f"/-/console/jobs/{job.id}",
        "inboxes": "/-/console/inbox/",
        "inbox": "/-/console/inbox/first",
        "login": "/-/login",
        "empty": "/-/console/?state=Cancel",
    }


async def _keep_picture(page: Page, name: str) -> None:
    folder = os.environ.get("CLOUDFINITE_SCREENSHOTS")
    if folder:
        await page.screenshot(Path(folder) / f"{name}.png")


async def test_text_is_told_apart_from_its_ground(desk: Desk, page: Page) -> None:
    """Contrast of at least 4.5 to 1 for text, in both colour schemes (WCAG AA)."""
    job = await read_job(desk)
    for is_dark in (False, True):
        await page.look(is_dark=is_dark)
        await page.open(f"{desk.url}/-/console/jobs/{job.id}")
        weak = await page.run(_CONTRAST)
        assert not weak, f"{'dark' if is_dark else 'light'}: {json.dumps(weak)}"


_CONTRAST = """
(() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (item) => {
    for (; item; item = item.parentElement) {
      const colour = getComputedStyle(item).backgroundColor;
      if (colour.startsWith("rgb(")) return parts(colour);
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const item of document.querySelectorAll("main *, header *")) {
    const hasText = [...item.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
    if (!hasText || !item.offsetHeight || item.closest("svg")) continue;
    const [a, b] = [light(parts(getComputedStyle(item).color)), light(ground(item))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) weak.push([item.className || item.tagName, item.textContent.slice(0, 20), ratio.toFixed(2)]);
  }
  return weak;
})()
"""


async def test_targets_and_deliveries_are_worked_with_their_buttons(desk: Desk, page: Page) -> None:
    await read_job(desk)
    await page.open(f"{desk.url}/-/console/targets/")
    await page.run("document.querySelector('form[action$=pause] button').click()")
    await page.until("document.querySelector('.t-paused') && document.querySelector('form[action$=resume]')")
    await page.run("document.querySelector('a[data-row]').click()")
    await page.until("location.pathname == '/-/console/deliveries/' && document.querySelector('.d-waiting')")
    await page.run("document.querySelector('form[action$=replay] button').click()")
    async with asyncio.timeout(10):
        while not desk.replayed:
            await asyncio.sleep(0.01)
    await page.until("document.readyState == 'complete' && location.search.includes('url=')")
    assert not page.complaints

"""The console as a browser asks for it: over sockets, on a real store, previews drawn by a real child process."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from tests.console_harness import BUCKET, HOSTILE, Desk, Line, picture, served_console

from cloudfinite.domain.delivery import Attempt
from cloudfinite.domain.job import CallbackFormat

LINES = [
    Line("Plow the fields at noon", 98, (40, 24, 176, 35)),
    Line("Every grain is hard-earned", 55, (39, 181, 165, 34)),
]
NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with served_console(tmp_path) as desk:
        yield desk


@pytest.fixture
async def drawing_desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """With a child that draws."""
    async with served_console(tmp_path, with_children=True) as desk:
        yield desk


# --- jobs ----------------------------------------------------------------------------------------------------------


async def test_first_page_without_jobs_shows_how_to_submit_one(desk: Desk) -> None:
    page = await desk.page("/-/console/")
    assert f'Proxies={{"http": "{desk.url}"}}' in page
    assert BUCKET in page and f"{desk.url}/-/inbox/first" in page


async def test_jobs_are_listed_newest_first_with_what_they_found(desk: Desk) -> None:
    await desk.read_job(LINES, "one.png")
    await desk.finish(await desk.submit("two.png"), None, code="ResourceNotFound", message="gone")
    page = await desk.page("/-/console/")
    assert page.index("two.png") < page.index("one.png")
    assert "Plow the fields at noon / Every grain" in page and "ResourceNotFound: gone" in page
    assert "Success <b>1</b>" in page and "Failed <b>1</b>" in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("state=Failed", {"two.png"}),
        ("object=one.png", {"one.png"}),
        ("tag=FileHashCode", {"three.bin"}),
        ("bucket=other-1", set()),
        ("since=15m", {"one.png", "two.png", "three.bin"}),
        ("until=2001-01-01T00:00", set()),
    ],
)
async def test_address_narrows_the_list(desk: Desk, query: str, shown: set[str]) -> None:
    await desk.read_job(LINES, "one.png")
    await desk.finish(await desk.submit("two.png"), None, code="ResourceNotFound", message="gone")
    await desk.submit("three.bin", "FileHashCode")
    page = await desk.page(f"/-/console/?{query}")
    assert set(re.findall(r"data-row>([^<]+)<", page)) == shown


async def test_pages_follow_one_another_without_gap_or_repeat(desk: Desk) -> None:
    for number in range(120):
        await desk.submit(f"k{number:03}.png")
    seen: list[str] = []
    address = "/-/console/"
    while address:
        page = await desk.page(address)
        seen += re.findall(r"data-row>([^<]+)<", page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        address = following[1].replace("&amp;", "&") if following else ""
    assert seen == [f"k{number:03}.png" for number in reversed(range(120))]


# --- one job -------------------------------------------------------------------------------------------------------


async def test_job_page_shows_lines_body_and_attempts(desk: Desk) -> None:
    job = await desk.read_job(LINES, user_data="order 4711")
    attempts = (
        Attempt(f"msg-{job.id}", 1, NOW, "http_500", 500, response_head="HTTP/1.1 500 Oops", response_body=b"boom"),
        Attempt(f"msg-{job.id}", 2, NOW, "delivered", 200),
    )
    delivery = await desk.deliver(job, CallbackFormat.XML, *attempts)
    page = await desk.page(f"/-/console/jobs/{job.id}")
    assert 'data-line="2" tabindex="0"><span class="text">Every grain is hard-earned' in page
    assert "&lt;JobId&gt;" in page and "order 4711" in page
    assert "http_500" in page and "HTTP/1.1 500 Oops\n\nboom" in page and "delivered" in page
    body = await desk.get(f"/-/console/deliveries/{delivery.id}/body")
    assert body.body == delivery.body and body["Content-Type"] == "application/octet-stream"


async def test_job_that_found_nothing_says_so(desk: Desk) -> None:
    job = await desk.read_job([])
    assert "No text was found." in await desk.page(f"/-/console/jobs/{job.id}")


async def test_waiting_job_is_cancelled_by_its_button(desk: Desk) -> None:
    job = await desk.submit()
    address = f"/-/console/jobs/{job.id}"
    assert f'action="{address}/cancel"' in await desk.page(address)
    assert (await desk.post(f"{address}/cancel")).status == 303
    page = await desk.page(address)
    assert "s-cancel" in page and "/cancel" not in page


async def test_job_that_ended_cannot_be_cancelled(desk: Desk) -> None:
    job = await desk.read_job(LINES)
    reply = await desk.post(f"/-/console/jobs/{job.id}/cancel")
    assert reply.status == 400 and b"only a waiting job" in reply.body


async def test_delivery_is_replayed_by_its_button(desk: Desk) -> None:
    delivery = await desk.deliver(await desk.read_job(LINES))
    reply = await desk.post(f"/-/console/deliveries/{delivery.id}/replay")
    assert (reply.status, desk.replayed) == (303, [delivery.id])
    assert reply["Location"] == f"/-/console/jobs/{delivery.job_id}#delivery-{delivery.id}"


@pytest.mark.parametrize("path", ["jobs/a9", "jobs/a9/picture", "deliveries/m9/body", "nothing", "inbox/..", "jobs/"])
async def test_page_that_is_not_there_says_so_in_html(desk: Desk, path: str) -> None:
    reply = await desk.get(f"/-/console/{path}")
    assert reply.status == 404 and reply["Content-Type"] == "text/html; charset=utf-8"


# --- the picture ---------------------------------------------------------------------------------------------------


async def test_picture_is_drawn_anew_with_the_boxes_in_its_own_pixels(drawing_desk: Desk) -> None:
    desk = drawing_desk
    await desk.put("pic/a.png", picture(LINES) + b"<script>behind the picture</script>")
    job = await desk.read_job(LINES)
    page = await desk.page(f"/-/console/jobs/{job.id}")
    address = re.search(r'<image href="([^"]+)" width="360" height="220"', page)
    assert address and 'points="40,24 215,24 215,58 40,58"' in page
    reply = await desk.get(address[1])
    assert reply["Content-Type"] == "image/png" and b"script" not in reply.body
    with Image.open(BytesIO(reply.body)) as drawn:
        assert drawn.size == (360, 220)


async def test_turned_and_large_picture_is_shown_upright_and_reduced(drawing_desk: Desk) -> None:
    desk = drawing_desk
    image = Image.new("RGB", (3000, 2000), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees when displayed
    file = BytesIO()
    image.save(file, "JPEG", exif=exif)
    await desk.put("pic/a.png", file.getvalue())
    job = await desk.read_job(LINES)
    reply = await desk.get(f"/-/console/jobs/{job.id}/picture")
    assert 'viewBox="0 0 2000 3000"' in await desk.page(f"/-/console/jobs/{job.id}")
    with Image.open(BytesIO(reply.body)) as drawn:
        assert (drawn.size, drawn.format) == ((1067, 1600), "JPEG")


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n broken", b""])
async def test_what_is_no_picture_is_told_and_never_passed_on(drawing_desk: Desk, data: bytes) -> None:
    desk = drawing_desk
    await desk.put("pic/a.png", data)
    job = await desk.read_job(LINES)
    page = await desk.page(f"/-/console/jobs/{job.id}")
    assert "No picture: " in page and 'points="40,24' in page  # the boxes are still drawn
    reply = await desk.get(f"/-/console/jobs/{job.id}/picture")
    assert reply.status == 404 and b"onload" not in reply.body


async def test_replaced_object_is_told(drawing_desk: Desk) -> None:
    desk = drawing_desk
    await desk.put("pic/a.png", picture(LINES))
    job = await desk.finish(await desk.submit(), {"lines": [], "angle": "0", "pdf_page_count": 0, "language": ""})
    assert "was replaced" not in await desk.page(f"/-/console/jobs/{job.id}")
    job = await desk.read_job(LINES, source_etag='"of other bytes"')
    assert "was replaced" in await desk.page(f"/-/console/jobs/{job.id}")


async def test_input_from_a_url_is_not_fetched_by_looking(drawing_desk: Desk) -> None:
    job = await drawing_desk.read_job(LINES, url="http://127.0.0.1:9/a.png")
    page = await drawing_desk.page(f"/-/console/jobs/{job.id}")
    assert "does not fetch it again" in page and "<image" not in page and 'points="40,24' in page


# --- live ----------------------------------------------------------------------------------------------------------


async def test_open_page_hears_of_its_job_and_of_no_other(desk: Desk) -> None:
    job = await desk.submit()
    client = await desk.edge.connect()
    host = f"127.0.0.1:{desk.edge.port}"
    client.send(desk.edge.request_bytes("GET", f"/-/console/events?of={job.id}", host, is_signed=False))
    head = await client.reader.readuntil(b"retry: 2000\n\n")
    assert b"text/event-stream" in head
    desk.feed.publish("another")
    await desk.finish(job, {})
    event = await client.reader.readuntil(b"data: ") + await client.reader.readline()
    assert event.endswith(f'event: change\ndata: ["{job.id}"]\n'.encode())


async def test_stopping_server_ends_open_pages_at_once(desk: Desk) -> None:
    client = await desk.edge.connect()
    host = f"127.0.0.1:{desk.edge.port}"
    client.send(desk.edge.request_bytes("GET", "/-/console/events", host, is_signed=False))
    await client.reader.readuntil(b"retry: 2000\n\n")
    desk.feed.close()
    await desk.edge.edge.close(60)
    assert await client.is_closed()


# --- inbox ---------------------------------------------------------------------------------------------------------


async def test_inbox_page_shows_what_arrived_and_sets_faults(desk: Desk) -> None:
    await desk.post("/-/inbox/first", b'{"EventName":"TaskFinish"}', site="cross-site")
    await desk.post("/-/console/inbox/first/faults", b"kind=status&times=2&status=503")
    page = await desk.page("/-/console/inbox/first")
    assert "&#34;EventName&#34;: &#34;TaskFinish&#34;" in page and "the next 2 will fail" in page
    assert (await desk.post("/-/inbox/first", b"x")).status == 503
    assert "answered 503" in await desk.page("/-/console/inbox/first")
    await desk.post("/-/console/inbox/first/clear")
    assert "Nothing has arrived yet." in await desk.page("/-/console/inbox/first")


@pytest.mark.parametrize("form", [b"", b"kind=fire", b"kind=status&status=99", b"kind=status&times=many"])
async def test_fault_that_cannot_be_read_is_refused(desk: Desk, form: bytes) -> None:
    assert (await desk.post("/-/console/inbox/first/faults", form)).status == 400


# --- protection ----------------------------------------------------------------------------------------------------

PAGES = ["/-/console/", "/-/console/jobs/{job}", "/-/console/inbox/first", "/-/console/inbox/", "/-/login?next={bad}"]


@pytest.mark.parametrize("page", PAGES)
async def test_hostile_text_is_escaped_on_every_page(desk: Desk, page: str) -> None:
    job = await desk.read_job([Line(HOSTILE, 90, (1, 1, 40, 20))], HOSTILE, user_data=HOSTILE)
    answered = Attempt(
        f"msg-{job.id}", 1, NOW, "http_500", 500, response_head=HOSTILE, response_body=HOSTILE.encode(), message=HOSTILE
    )
    await desk.deliver(job, CallbackFormat.JSON, answered, state="failed")
    await desk.post("/-/inbox/first", HOSTILE.encode(), site="cross-site")
    bad = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
    text = await desk.page(page.format(job=job.id, bad=bad))
    assert "<script>alert" not in text and "<img src=x" not in text
    assert not re.search(r"<[^>]+\son\w+=", text)
    assert "alert(1)" in text or page == "/-/console/inbox/"


@pytest.mark.parametrize("path", ["/-/console/", "/-/console/jobs/a9", "/-/console/inbox/first", "/-/login"])
async def test_every_page_carries_the_policy_and_keeps_it(desk: Desk, path: str) -> None:
    reply = await desk.get(path)
    policy = dict(part.strip().split(" ", 1) for part in reply["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'" and policy["form-action"] == "'self'"
    assert reply["X-Content-Type-Options"] == "nosniff" and reply["Referrer-Policy"] == "no-referrer"
    assert reply["Cache-Control"] == "no-store"
    assert b"style=" not in reply.body and not re.search(rb"<script(?! src=)", reply.body)
    assert not re.search(rb'(?:src|href)="(?:https?:)?//', reply.body)


@pytest.mark.parametrize("action", ["jobs/{job}/cancel", "deliveries/msg-{job}/replay", "inbox/first/clear"])
async def test_other_sites_can_change_nothing(desk: Desk, action: str) -> None:
    job = await desk.submit()
    path = f"/-/console/{action.format(job=job.id)}"
    assert (await desk.post(path, site="cross-site")).status == 403
    assert (await desk.get(path)).status == 404
    assert not desk.replayed and "s-submitted" in await desk.page(f"/-/console/jobs/{job.id}")


async def test_files_of_the_pages_are_served_and_nothing_beside_them(desk: Desk) -> None:
    page = await desk.page("/-/console/")
    for address in re.findall(r'(?:src|href)="(/-/static/[^"]+)"', page):
        reply = await desk.get(address)
        assert reply.status == 200 and "immutable" in reply["Cache-Control"]
    for name in ("..%2Ftemplates%2Fbase.html", "../console.py", "nothing.css", ""):
        assert (await desk.get(f"/-/static/{name}")).status == 404


# --- deliveries and targets ----------------------------------------------------------------------------------------


async def test_deliveries_are_listed_and_narrowed_by_their_address(desk: Desk) -> None:
    done, failed = await desk.read_job(LINES, "a.png"), await desk.read_job(LINES, "b.png")
    await desk.deliver(done, CallbackFormat.XML, Attempt(f"msg-{done.id}", 1, NOW, "delivered", 200))
    await desk.deliver(failed, CallbackFormat.XML, Attempt(f"msg-{failed.id}", 1, NOW, "http_404", 404), state="failed")
    everything = await desk.page("/-/console/deliveries/")
    assert everything.index(f"msg-{failed.id}") < everything.index(f"msg-{done.id}")
    assert "Replay" in everything and "1<span" in everything
    only = await desk.page("/-/console/deliveries/?state=failed&url=http%3A%2F%2F127.0.0.1%3A1%2Fin")
    assert f"msg-{failed.id}" in only and f"msg-{done.id}" not in only
    assert f"msg-{done.id}" in await desk.page(f"/-/console/deliveries/?job={done.id}")
    assert "No delivery fits" in await desk.page("/-/console/deliveries/?url=http://nobody/")
    for query in ("state=odd", "before=x", "before=99999999999999999999"):
        assert (await desk.get(f"/-/console/deliveries/?{query}")).status == 400


async def test_delivery_pages_follow_one_another(desk: Desk) -> None:
    for number in range(60):
        await desk.deliver(await desk.read_job(LINES, f"{number}.png"))
    first = await desk.page("/-/console/deliveries/")
    second = await desk.page(unescape(re.findall(r'href="([^"]+)" rel="next"', first)[0]))
    shown = [set(re.findall(r'<tr id="(msg-\w+)"', page)) for page in (first, second)]
    assert (len(shown[0]), len(shown[1]), shown[0] & shown[1]) == (50, 10, set())
    assert 'rel="next"' not in second


async def test_delivery_has_a_page_of_its_own_without_a_job_too(desk: Desk) -> None:
    test = await desk.deliveries.send_test("http://127.0.0.1:1/test")
    page = await desk.page(f"/-/console/deliveries/{test.id}")
    assert "&lt;EventName&gt;Test&lt;/EventName&gt;" in page and "The job" not in page
    reply = await desk.post(f"/-/console/deliveries/{test.id}/replay")
    assert (reply.status, reply["Location"]) == (303, f"/-/console/deliveries/{test.id}")
    body = await desk.get(f"/-/console/deliveries/{test.id}/body")
    assert body.body == test.body and f'filename="{test.id}.xml"' in body["Content-Disposition"]
    assert (await desk.get("/-/console/deliveries/msg-none")).status == 404


@pytest.mark.parametrize(
    ("back", "leads_to"),
    [
        ("/-/console/deliveries/?state=failed", "/-/console/deliveries/?state=failed"),
        ("https://evil.example/", "/-/console/jobs/"),
        ("//evil.example/-/console/deliveries/", "/-/console/jobs/"),
    ],
)
async def test_button_leads_back_to_pages_of_ours_only(desk: Desk, back: str, leads_to: str) -> None:
    delivery = await desk.deliver(await desk.read_job(LINES))
    reply = await desk.post(f"/-/console/deliveries/{delivery.id}/replay", f"back={quote(back, safe='')}".encode())
    assert reply.status == 303 and reply["Location"].startswith(leads_to)


async def test_target_is_paused_and_resumed_by_its_button(desk: Desk) -> None:
    await desk.deliver(await desk.read_job(LINES))
    form = b"url=http%3A%2F%2F127.0.0.1%3A1%2Fin"
    assert (await desk.post("/-/console/targets/pause", form)).status == 303
    page = await desk.page("/-/console/targets/")
    assert "paused by an operator" in page and "Resume" in page
    assert (await desk.post("/-/console/targets/pause", form, site="cross-site")).status == 403
    await desk.post("/-/console/targets/resume", form)
    assert "t-active" in await desk.page("/-/console/targets/")
    assert (await desk.post("/-/console/targets/pause", b"url=http://never/")).status == 404
    assert (await desk.post("/-/console/targets/pause", b"")).status == 400


async def test_hostile_target_is_escaped(desk: Desk) -> None:
    await desk.store.run(lambda tx: tx.deliveries.set_rate(f"http://x/{HOSTILE}", 1.5))
    await desk.store.run(lambda tx: tx.deliveries.pause(f"http://x/{HOSTILE}", HOSTILE))
    page = await desk.page("/-/console/targets/")
    assert "<script>alert" not in page and "<img src=x" not in page and "1.5/s" in page

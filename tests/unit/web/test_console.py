"""What the console makes of values: addresses, words, bars, boxes and bodies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.domain.job import Job, JobInput, JobState
from cloudfinite.errors import InvalidArgument
from cloudfinite.operations.image_ocr import Box, Corner, TextLine
from cloudfinite.service.jobs import JobPage
from cloudfinite.web.console_frame import Frame, byte_size
from cloudfinite.web.console_job import indent_xml, show_body
from cloudfinite.web.console_jobs import Counters, Wanted, first_words, next_url, read_wanted
from cloudfinite.web.drawing import Span, confidence_class, draw_boxes, draw_spans, duration, picture_size
from cloudfinite.web.request import Query

NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


def job(**given: Any) -> Job:
    return Job("a1", "b-1", "ap-x", "ImageOCR", "p1", JobInput("k.png"), {}, NOW, **given)


def line(text: str, confidence: int = 98) -> TextLine:
    return TextLine(confidence, text, Box(35, 176, 40, 24), (Corner(40, 24), Corner(215, 24), Corner(215, 58)))


def wanted(*pairs: tuple[str, str]) -> Wanted:
    return read_wanted(Query(pairs), NOW)


# --- the list's address --------------------------------------------------------------------------------------------


def test_filters_are_read_from_the_address_and_written_back() -> None:
    found = wanted(("state", "Failed"), ("object", "a b/ü.png"), ("since", "1h"), ("bucket", "b-1"), ("x", "y"))
    assert found.filter.states == {JobState.FAILED}
    assert found.filter.object_key == "a b/ü.png"
    assert found.filter.created_from == NOW - timedelta(hours=1)
    assert found.url(state="") == "/-/console/?bucket=b-1&object=a+b%2F%C3%BC.png&since=1h"


def test_another_filter_starts_at_the_first_page() -> None:
    following = next_url(wanted(("tag", "ImageOCR")), JobPage([job()], (job(), 7)))
    pairs = [tuple(pair.split("=")) for pair in following.partition("?")[2].split("&")]
    page = wanted(*pairs)
    assert page.filter.after == (NOW, 7) and not page.is_first_page
    assert page.url(state="Failed") == "/-/console/?state=Failed&tag=ImageOCR"


def test_last_page_has_no_next() -> None:
    assert next_url(wanted(), JobPage([job()], None)) == ""


def test_exact_times_are_utc_unless_they_say_otherwise() -> None:
    assert wanted(("from", "2026-01-05T01:00")).filter.created_from == NOW - timedelta(hours=1)
    assert wanted(("until", "2026-01-05T09:00+08:00")).filter.created_until == NOW - timedelta(hours=1)


@pytest.mark.parametrize("pair", [("state", "Done"), ("since", "1y"), ("from", "today"), ("after", "x")])
def test_unreadable_filter_is_named(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidArgument, match=pair[1]):
        wanted(pair)


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_job", "words"),
    [
        (job(state=JobState.SUCCESS, result={"lines": [{"text": "one"}, {"text": "two"}]}), "one / two"),
        (job(state=JobState.SUCCESS, result={"lines": []}), "no text found"),
        (job(state=JobState.SUCCESS, result={"md5": None, "sha1": "abc", "size_bytes": 3}), "abc"),
        (job(state=JobState.FAILED, code="ResourceNotFound", message="gone"), "ResourceNotFound: gone"),
        (job(state=JobState.RUNNING), ""),
    ],
)
def test_row_tells_what_the_job_found(given_job: Job, words: str) -> None:
    assert first_words(given_job) == words


def test_long_text_is_cut() -> None:
    words = first_words(job(state=JobState.SUCCESS, result={"lines": [{"text": "x" * 90}] * 1_000}))
    assert len(words) == 120 and words.endswith("…")


def test_slow_counting_is_repeated_rarely() -> None:
    time_s = [0.0]
    counters = Counters(lambda: time_s[0])
    assert counters.fresh("b-1") is None
    time_s[0] = 2.0
    counters.keep("b-1", {JobState.SUCCESS: 1}, started=0.0)  # It took 2 s, so 40 s pass before the next.
    time_s[0] = 41.0
    assert counters.fresh("b-1") == {JobState.SUCCESS: 1} and counters.fresh("other") is None
    time_s[0] = 42.5
    assert counters.fresh("b-1") is None


# --- drawings ------------------------------------------------------------------------------------------------------


def test_boxes_are_linked_with_their_lines_and_escaped() -> None:
    svg = draw_boxes([line("<script>&\"'"), line("b", 50)], 360, 220, '/p?a="b')
    assert 'viewBox="0 0 360 220"' in svg and 'points="40,24 215,24 215,58"' in svg
    assert '<a href="#line-2" tabindex="-1"><polygon id="box-2" data-line="2" class="box q0"' in svg
    assert "<script" not in svg and "&lt;script&gt;&amp;&#34;&#39;" in svg and 'href="/p?a=&#34;b"' in svg
    assert "style=" not in svg


def test_picture_that_cannot_be_had_is_as_large_as_its_boxes() -> None:
    assert picture_size([line("a")]) == (216, 59)
    assert picture_size([]) == (1, 1)


@pytest.mark.parametrize(("confidence", "name"), [(0, "q0"), (60, "q1"), (91, "q3"), (92, "q4"), (100, "q5")])
def test_confidence_has_a_colour(confidence: int, name: str) -> None:
    assert confidence_class(confidence) == name


def test_short_span_stays_visible_beside_a_long_one() -> None:
    svg = draw_spans([Span("waited", "waited", timedelta(milliseconds=1)), Span("ran", "ran", timedelta(hours=1))])
    assert 'class="span waited" x="0.0" y="0" width="12.0"' in svg
    assert "waited: 1 ms" in svg and "ran 1 h 0 min" in svg
    assert draw_spans([]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"), (0.0032, "3 ms"), (0.9996, "1.00 s"), (1.237, "1.24 s"), (15, "15.0 s"), (59.96, "1 min 0 s"),
        (125, "2 min 5 s"), (11_400, "3 h 10 min"), (187_200, "2 d 4 h"),
    ],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


# --- bodies --------------------------------------------------------------------------------------------------------


def test_xml_is_indented_by_its_tags() -> None:
    assert indent_xml("<A><B>x &lt; y</B><C/><D><E>1</E></D></A>") == (
        "<A>\n  <B>x &lt; y</B>\n  <C/>\n  <D>\n    <E>1</E>\n  </D>\n</A>"
    )


@given(st.text(alphabet="<>/! ?ab\n", max_size=60))
def test_any_text_survives_indenting(text: str) -> None:
    squeezed = "".join(indent_xml(text).split())
    assert squeezed == "".join(text.split())


def test_body_is_shown_in_the_form_it_claims_or_starts_like() -> None:
    assert show_body(b'{"a":1}', "application/json; charset=utf-8").pretty == '{\n  "a": 1\n}'
    assert show_body(b"<A><B/></A>", "text/plain").form == "XML"
    assert show_body(b"{broken", "application/json").pretty == "{broken"
    assert show_body(b"\xff\xfe", "image/png").raw == "\ufffd\ufffd"


def test_large_body_is_cut_and_says_so() -> None:
    body = show_body(b"<A>" + b"x" * 1_000 + b"</A>", "application/xml", limit_bytes=100)
    assert body.is_cut and body.size_bytes == 1_007 and len(body.raw) == 100


@pytest.mark.parametrize(("count", "text"), [(2479, "2,479 bytes"), (20_000, "20 kB"), (16_500_000, "16.5 MB")])
def test_sizes_read_as_people_say_them(count: int, text: str) -> None:
    assert byte_size(count) == text


def test_address_of_a_static_file_changes_with_it() -> None:
    frame = Frame()
    assert frame.static_url("console.css").startswith("/-/static/console.css?v=")
    assert frame.static_url("console.css")[-12:] != frame.static_url("console.js")[-12:]

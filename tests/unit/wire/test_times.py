from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.wire.times import http_date, job_time, object_time, parse_job_time, run_notice_time, run_time

AT = datetime(2026, 1, 5, 2, 0, 0, 999_999, tzinfo=UTC)


def test_each_form_of_one_instant() -> None:
    assert job_time(AT) == "2026-01-05T10:00:00+0800"
    assert job_time(AT, UTC) == "2026-01-05T02:00:00+0000"
    assert run_time(AT) == "2026-01-05T10:00:00+08:00"
    assert run_notice_time(AT) == "2026-01-05 10:00:00+0800"
    assert object_time(AT) == "2026-01-05T02:00:00.999Z"
    assert http_date(AT) == "Mon, 05 Jan 2026 02:00:00 GMT"


def test_time_not_reached_prints_as_a_dash() -> None:
    assert (job_time(None), run_time(None), run_notice_time(None)) == ("-", "-", "-")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T10:00:00+0800",
        "2026-01-05T10:00:00+08:00",
        "2026-01-05 10:00:00+0800",
        "2026-01-05T10:00:00 0800",  # a `+` that a query parser took for a blank
        "2026-01-05T02:00:00Z",
        "2026-01-04T21:00:00-0500",
        "2026-01-05T10:00:00.000+0800",
        "2026-01-05T10:00:00",
    ],
)
def test_every_form_that_clients_send_is_read(text: str) -> None:
    assert parse_job_time(text) == datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-13-05T10:00:00+0800", "2026-01-05T10:00:00+9900", "2026-01-05", "２026-01-05T10:00:00Z"],
)
def test_any_other_text_is_refused_naming_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time like 2001-01-01T00:00:00"):
        parse_job_time(text)


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
    st.integers(-720, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_printed_time_reads_back_to_the_second(at: datetime, zone: timezone) -> None:
    assert parse_job_time(job_time(at, zone)) == at.replace(microsecond=0)

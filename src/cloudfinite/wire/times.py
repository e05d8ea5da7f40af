"""The wire's time forms. Values inside are aware datetimes; None prints as `-`.

Wire: Cloud Infinite API documentation, job samples (`2023-11-25T08:47:39+0800`, `-` where not reached), samples of
workflow executions (`+08:00`) and of "Workflow Callback" (a blank in place of `T`); COS documentation, `GET Bucket`
samples (`2026-11-22T10:00:00.000Z`) and HTTP dates.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import format_datetime

CHINA = timezone(timedelta(hours=8))
_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(?:(Z)|([+ -])(\d\d):?(\d\d))?", re.ASCII
)


def job_time(at: datetime | None, zone: timezone = CHINA) -> str:
    """`2023-11-25T08:47:39+0800`; whole seconds, cut, so that EndTime is never before StartTime."""
    return at.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z") if at else "-"


def run_time(at: datetime | None, zone: timezone = CHINA) -> str:
    """`2026-11-22T10:01:00+08:00`, in answers about a workflow's runs."""
    return at.astimezone(zone).isoformat(timespec="seconds") if at else "-"


def run_notice_time(at: datetime | None, zone: timezone = CHINA) -> str:
    """`2026-11-22 10:01:00+0800`, in the notification of a run's end."""
    return job_time(at, zone).replace("T", " ")


def object_time(at: datetime) -> str:
    """`2026-11-22T10:00:00.000Z`, in lists of objects."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def http_date(at: datetime) -> str:
    """`Mon, 05 Jan 2026 02:00:00 GMT`, in HTTP headers."""
    return format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)


def parse_job_time(text: str) -> datetime:
    """Read a time parameter: `+0800`, `+08:00`, `Z`, or a blank where a `+` was decoded; no offset means +0800.

    Raises ValueError naming the expected form.
    """
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a time like 2001-01-01T00:00:00+0800")
    *numbers, is_utc, sign, hours, minutes = match.groups()
    zone: tzinfo = CHINA
    try:
        if is_utc:
            zone = UTC
        elif sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            zone = timezone(-offset if sign == "-" else offset)
        year, month, day, hour, minute, second = map(int, numbers)
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as exc:
        raise ValueError(f"{text!r} is not a time like 2001-01-01T00:00:00+0800") from exc

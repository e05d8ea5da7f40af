"""Which callback a job's end has: its own nodes, its queue's setting, or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cloudfinite.domain.delivery import DeliveryState
from cloudfinite.domain.job import CallbackChoice, CallbackFormat, Job, JobInput, JobState
from cloudfinite.domain.queue import Notify, Queue
from cloudfinite.operations import operations
from cloudfinite.service.deliveries import effective_callback, plan_delivery

NOW = datetime(2026, 1, 5, tzinfo=UTC)
OWN, QUEUE_URL = "http://own/", "http://queue/"
XML, JSON = CallbackFormat.XML, CallbackFormat.JSON
JOB = Job(
    "j1", "b-1", "r", "FileHashCode", "p1", JobInput("a"), {"type": "MD5"}, NOW, state=JobState.FAILED, code="X",
    ended_at=NOW,
)  # fmt: skip
ON = Notify(True, QUEUE_URL, ("TaskFinish",), JSON)


def queue(notify: Notify) -> Queue:
    return Queue("p1", "b-1", "file", "q", NOW, NOW, notify=notify)


@pytest.mark.parametrize(
    ("choice", "notify", "expected"),
    [
        (CallbackChoice(), Notify(), None),
        (CallbackChoice(OWN), Notify(), (OWN, XML)),
        (CallbackChoice(OWN, JSON), Notify(), (OWN, JSON)),
        (CallbackChoice(), ON, (QUEUE_URL, JSON)),
        (CallbackChoice(OWN), ON, (OWN, JSON)),
        (CallbackChoice(format=XML), ON, (QUEUE_URL, XML)),
        (CallbackChoice("no"), ON, None),
        (CallbackChoice("No"), ON, None),
        (CallbackChoice(OWN), replace(ON, is_on=False), (OWN, XML)),
        (CallbackChoice(), replace(ON, is_on=False), None),
        (CallbackChoice(), replace(ON, events=("WorkflowFinish",)), None),
        (CallbackChoice(OWN), replace(ON, events=("WorkflowFinish",)), (OWN, XML)),
        (CallbackChoice(), replace(ON, url=""), None),
    ],
)
def test_jobs_own_nodes_win_each_by_itself(
    choice: CallbackChoice, notify: Notify, expected: tuple[str, CallbackFormat] | None
) -> None:
    assert effective_callback(replace(JOB, callback=choice), lambda _: queue(notify)) == expected


@pytest.mark.parametrize("state", [JobState.SUBMITTED, JobState.RUNNING, JobState.CANCEL])
def test_only_success_and_failure_are_told(state: JobState) -> None:
    assert effective_callback(replace(JOB, state=state), lambda _: queue(ON)) is None


def test_planned_delivery_is_due_at_once_with_its_final_body() -> None:
    job = replace(JOB, callback=CallbackChoice(OWN, JSON))
    planned = plan_delivery(job, lambda _: None, operations()["FileHashCode"], NOW)
    assert planned is not None and planned.content_type == "application/json"
    assert planned.body.startswith(b'{"EventName":"TaskFinish"') and b'"j1"' in planned.body
    assert (planned.state, planned.next_at, planned.url) == (DeliveryState.WAITING, NOW, OWN)


def test_job_with_an_impossible_url_can_still_end() -> None:
    job = replace(JOB, callback=CallbackChoice("http://x/" + "é" * 3_000))
    planned = plan_delivery(job, lambda _: None, operations()["FileHashCode"], NOW)
    assert planned is not None and planned.state is DeliveryState.REFUSED and len(planned.url.encode()) <= 2_048

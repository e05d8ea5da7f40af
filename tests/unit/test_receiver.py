"""Callbacks read as the vendor and others write them, and signatures checked."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from standardwebhooks.webhooks import Webhook

from cloudfinite.receiver import (
    Box,
    CallbackError,
    Corner,
    SignatureError,
    TaskFinish,
    parse_callback,
    verify,
)
from cloudfinite.wire.webhooks import new_secret, read_secret, sign

GOLDEN = Path(__file__).parent.parent / "golden" / "callbacks"
WORKFLOWS = GOLDEN.parent / "workflows"
# The seed's two samples translate one line differently.
PLACEHOLDERS = {"{TIME}": "2023-11-25T08:47:39+0800", "Toiling under the midday sun": "Plow the fields at noon"}


def golden(name: str) -> bytes:
    text = (GOLDEN / name).read_text()
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return text.encode()


def as_json(**changes: Any) -> bytes:
    detail = {"JobId": "a1", "State": "Success", "Tag": "ImageOCR", "Operation": {"JobLevel": 0}} | changes
    return json.dumps({"EventName": "TaskFinish", "JobsDetail": [detail]}).encode()


def only_line(body: bytes) -> Any:
    detection = parse_callback(body).jobs[0].detection
    assert detection is not None
    (line,) = detection.lines
    return line


@pytest.mark.parametrize("name", sorted({path.stem for path in GOLDEN.glob("*.xml")}))
def test_both_forms_of_each_golden_callback_tell_the_same(name: str) -> None:
    def plain(callback: TaskFinish) -> list[Any]:
        return [
            (job.job_id, job.state, job.code, job.message, job.detection, job.ended_at, job.user_data, job.object_key)
            for job in callback.jobs
        ]

    assert plain(parse_callback(golden(f"{name}.xml"))) == plain(parse_callback(golden(f"{name}.json")))


def test_seed_callback_is_read_whole() -> None:
    (job,) = parse_callback(golden("seed.xml")).jobs
    assert (job.state, job.tag, job.region, job.code) == ("Success", "ImageOCR", "ap-chongqing", "Success")
    assert job.created_at is not None and job.created_at.isoformat() == "2023-11-25T08:47:39+08:00"
    assert job.detection is not None and job.detection.angle_deg == 0
    line = job.detection.lines[0]
    assert line.box == Box(40, 24, 176, 35) and line.corners[2] == Corner(215, 58)
    assert line.words == () and line.outlines == ()  # the placeholders are no words


LINE = {
    "Confidence": 98, "DetectedText": "x", "ItemPolygon": {"Height": 1, "Width": 2, "X": 3, "Y": 4},
    "Polygon": [{"X": 3, "Y": 4}],
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        LINE | {"ItemPolygon": [LINE["ItemPolygon"]]},
        LINE | {"Confidence": "98", "ItemPolygon": {"Height": "1", "Width": "2", "X": "3", "Y": "4"}},
        LINE | {"Polygon": {"X": 3.0, "Y": "4"}, "Words": {"Confidence": 0}, "WordPolygon": None},
        LINE | {"Words": [{"Confidence": 0, "Character": "", "WordCoordPoint": None}], "WordPolygon": [""]},
    ],
)
@pytest.mark.parametrize("angle", [{"Angel": "1.5"}, {"Angle": 1.5}, {"Angel": 1.5, "Language": None}])
def test_every_spelling_of_a_line_is_read(line: dict[str, Any], angle: dict[str, Any]) -> None:
    for lines in ([line], line):
        body = as_json(Operation={"Detection": angle | {"TextDetections": lines}})
        found = only_line(body)
        assert (found.text, found.confidence, found.box, found.corners) == ("x", 98, Box(3, 4, 2, 1), (Corner(3, 4),))
        assert found.words == ()
        detection = parse_callback(body).jobs[0].detection
        assert detection is not None and detection.angle_deg == 1.5


def test_envelope_and_array_are_optional() -> None:
    detail = {"JobId": "a1", "State": "Success", "Tag": "T"}
    for inner in (
        {"EventName": "TaskFinish", "JobsDetail": detail},
        {"EventName": "TaskFinish", "JobsDetail": [detail]},
    ):
        for outer in (inner, {"Response": inner}):
            (job,) = parse_callback(json.dumps(outer).encode()).jobs
            assert (job.job_id, job.detection) == ("a1", None)


def test_several_jobs_and_workflow_nodes_are_read() -> None:
    body = (
        b"<?xml version='1.0' encoding='utf-8'?>\n<Response><EventName>TaskFinish</EventName>"
        b"<JobsDetail><JobId>a</JobId></JobsDetail><JobsDetail><JobId>b</JobId><EndTime>-</EndTime><Input>"
        b"<CosHeaders><Key>Size</Key><Value>1</Value></CosHeaders></Input><Workflow><Name>n</Name><RunId>r</RunId>"
        b"<WorkflowId>w</WorkflowId><WorkflowName>m</WorkflowName></Workflow></JobsDetail></Response>"
    )
    first, second = parse_callback(body).jobs
    assert (first.job_id, second.job_id, second.ended_at) == ("a", "b", None)
    assert second.object_headers == {"Size": "1"}
    assert second.workflow is not None and second.workflow.run_id == "r"


LAUGHS = b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Response><EventName>&b;</EventName></Response>'


@pytest.mark.parametrize(
    "body",
    [
        b"", b"hello", b"[]", b"{", b"<a>", b"{}", b"<Response/>", LAUGHS, b"{" * 100_000, b'{"a":' * 50_000,
        b"<a>" * 5_000, b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><Response><EventName>x</EventName></Response>',
        as_json(Operation={"JobLevel": "high"}), as_json(Operation={"JobLevel": 1e400}), as_json(CreationTime="now"),
        b"\xff\xfe<\0R\0>\0",
    ],
)  # fmt: skip
def test_unreadable_bodies_are_said_to_be(body: bytes) -> None:
    with pytest.raises(CallbackError):
        parse_callback(body, "application/xml")


NAMES = ["Response", "EventName", "JobsDetail", "Operation", "Detection", "TextDetections", "Words", "X"]
LEAVES = st.none() | st.booleans() | st.floats() | st.text()


@given(
    st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner), max_leaves=30)
)
def test_no_json_breaks_the_parser(value: Any) -> None:
    body = json.dumps({"EventName": "TaskFinish", "JobsDetail": value}).encode()
    with suppress(CallbackError):
        parse_callback(body)


def test_parsed_xml_is_what_lxml_reads() -> None:
    root = etree.fromstring(golden("seed.xml"))
    detection = parse_callback(golden("seed.xml")).jobs[0].detection
    assert detection is not None
    assert [line.text for line in detection.lines] == [node.text for node in root.iter("DetectedText")]


# --- signatures ----------------------------------------------------------------------------------------------------

SECRET = new_secret()


def signed(body: bytes, secret: str = SECRET, at_s: float | None = None) -> dict[str, str]:
    at = int(time.time() if at_s is None else at_s)
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": sign([read_secret(secret)], "msg_1", at, body),
    }


def test_own_signature_is_accepted_by_us_and_by_the_official_library() -> None:
    body = b'{"a":1}'
    assert verify(signed(body), body, SECRET) == "msg_1"
    Webhook(SECRET).verify(body, signed(body))


def test_either_of_two_secrets_is_enough_during_a_rotation() -> None:
    other = new_secret()
    assert verify(signed(b"x", other), b"x", [SECRET, other]) == "msg_1"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(b"x"), b"y"),
        (signed(b"x", new_secret()), b"x"),
        (signed(b"x", at_s=time.time() - 4_000), b"x"),
        (signed(b"x", at_s=time.time() + 4_000), b"x"),
        (signed(b"x") | {"Webhook-Id": "msg_2"}, b"x"),
        (signed(b"x") | {"Webhook-Signature": "v1,é v2"}, b"x"),
        (signed(b"x") | {"Webhook-Timestamp": "soon"}, b"x"),
        ({}, b"x"),
    ],
)
def test_forged_changed_and_old_callbacks_are_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(headers, body, SECRET)


@pytest.mark.parametrize("secret", ["whsec_!!!", "whsec_", "whsec_YQ==", "whsec_a-_b"])
def test_secrets_that_are_none_are_said_to_be(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        verify(signed(b"x"), b"x", secret)


@pytest.mark.parametrize("form", ["xml", "json"])
def test_end_of_a_workflows_run_is_read_in_both_forms(form: str) -> None:
    callback = parse_callback((WORKFLOWS / f"workflow-finish.{form}").read_bytes())
    run = callback.run
    assert run is not None and (callback.event, callback.jobs) == ("WorkflowFinish", ())
    assert (run.workflow_name, run.state, run.object_key) == ("ocr-incoming", "Success", "incoming/page 1.png")
    assert run.created_at == datetime(2026, 11, 22, 2, 1, tzinfo=UTC)
    assert list(run.object_headers.items())[:1] == [("Content-Type", "image/png")]
    picture, ocr = run.steps
    assert (picture.name, picture.object_key, picture.detection) == ("PicProcess_1", "turned/page 1.png", None)
    assert ocr.detection is not None and [line.text for line in ocr.detection.lines] == ["TOTAL 12.50"]


@pytest.mark.parametrize("form", ["xml", "json"])
def test_step_of_a_run_tells_which_and_what_came_with_the_upload(form: str) -> None:
    [job] = parse_callback((WORKFLOWS / f"task-finish.{form}").read_bytes()).jobs
    assert job.workflow is not None and (job.workflow.name, job.workflow.run_id[0]) == ("ImageOCR_1", "i")
    assert job.object_headers["x-cos-meta-customer"] == "42"

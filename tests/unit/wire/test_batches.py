"""Batch jobs: golden answers, what requests become, and lists of objects line by line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.domain.batch import Batch, BatchCounts, BatchInput, BatchKind, TimeInterval
from cloudfinite.domain.job import CallbackFormat, JobState
from cloudfinite.errors import InvalidArgument, InvalidContent, RequestError
from cloudfinite.operations import operations
from cloudfinite.wire.batches import batches_answer, read_batch, read_batch_filter, read_operation
from cloudfinite.wire.documents import parse_body
from cloudfinite.wire.inventories import Listed, read_inventory_row, read_manifest, read_url_line
from cloudfinite.wire.nodes import to_json, to_xml

GOLDEN = Path(__file__).parents[2] / "golden" / "batches"
AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)

# Wire: Cloud Infinite API documentation, "Trigger job (workflow)" and "(independent node)": the samples' form, with
# values of ours.
BY_WORKFLOW = b"""
<Request>
  <Name>backfill-receipts</Name>
  <Input><Prefix>incoming/2026/</Prefix></Input>
  <Operation>
    <TimeInterval><Start>2026-01-01T00:00:00+0800</Start><End>2026-11-01T00:00:00+0800</End></TimeInterval>
    <WorkflowIds>w0f1e2d3c4b5a69788796a5b4c3d2e1f0</WorkflowIds>
  </Operation>
</Request>"""
BY_JOB = b"""
<Request>
  <Name>ocr-all</Name>
  <Type>Job</Type>
  <Input><UrlFile>lists/urls.txt</UrlFile></Input>
  <Operation>
    <TimeInterval></TimeInterval>
    <Tag>ImageOCR</Tag>
    <JobParam><TemplateId>t1ffeeddccbbaa99887766554433221100</TemplateId></JobParam>
    <QueueId>p00112233445566778899aabbccddeeff</QueueId>
    <CallBack>http://127.0.0.1:9000/hook</CallBack>
    <CallBackFormat>JSON</CallBackFormat>
    <UserData>ticket-7</UserData>
    <JobLevel>0</JobLevel>
  </Operation>
</Request>"""


def batch_of(body: bytes, batch_id: str) -> Batch:
    wanted = read_batch(parse_body(body), operations())
    return Batch(
        batch_id, "demo-1250000000", wanted.name, wanted.kind, wanted.input, wanted.operation, AT,
        wanted.interval, wanted.workflow_ids,
    )  # fmt: skip


RUNNING = replace(
    batch_of(BY_WORKFLOW, "b99887766554433221100ffeeddccbbaa"),
    state=JobState.RUNNING, started_at=AT, counts=BatchCounts(1200, 1180, 20), held="the queue p1 is paused",
)  # fmt: skip
FAILED = replace(
    batch_of(BY_JOB, "bdeffea2f84911ec9cb15254008618d90"),
    state=JobState.FAILED, started_at=AT, ended_at=AT, code="NoSuchKey", message="the object does not exist",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "batches", "more"),
    [
        ("created", [batch_of(BY_WORKFLOW, "b99887766554433221100ffeeddccbbaa")], {}),
        ("list", [RUNNING, FAILED], {"next_token": "25"}),
        ("missing", [], {"missing": "bnone"}),
    ],
)
def test_answer_has_the_golden_bytes(name: str, batches: list[Batch], more: dict[str, str]) -> None:
    answer = batches_answer("NjM3YmY2YTJfMTEyMl9hYWMw", batches, **more)
    assert to_xml(answer).decode() == (GOLDEN / f"{name}.xml").read_text()
    assert to_json(answer).decode() == (GOLDEN / f"{name}.json").read_text()


def test_request_of_each_kind_is_read() -> None:
    by_workflow = read_batch(parse_body(BY_WORKFLOW), operations())
    assert (by_workflow.kind, by_workflow.input) == (BatchKind.WORKFLOW, BatchInput(prefix="incoming/2026/"))
    assert by_workflow.interval.start == datetime(2025, 12, 31, 16, tzinfo=UTC)
    assert by_workflow.interval.end == datetime(2026, 10, 31, 16, 0, 0, 999_999, tzinfo=UTC)
    by_job = read_batch(parse_body(BY_JOB), operations())
    assert by_job.interval == TimeInterval() and by_job.input == BatchInput(url_file="lists/urls.txt")
    job = read_operation(by_job.operation, operations())
    assert (job.tag, job.template_id, job.user_data) == ("ImageOCR", "t1ffeeddccbbaa99887766554433221100", "ticket-7")
    assert (job.callback.url, job.callback.format) == ("http://127.0.0.1:9000/hook", CallbackFormat.JSON)


def test_input_without_a_node_is_the_whole_bucket() -> None:
    for source in (b"", b"<Input/>", b"<Input><Prefix/></Input>"):
        body = BY_JOB.replace(b"<Input><UrlFile>lists/urls.txt</UrlFile></Input>", source)
        assert read_batch(parse_body(body), operations()).input == BatchInput()


def test_name_that_no_answer_could_repeat_is_refused() -> None:
    body = b'{"Request": {"Name": "b", "Operation": {"WorkflowIds": "w1", "a b": "c"}}}'
    with pytest.raises(InvalidArgument, match="a node called 'a b'"):
        read_batch(parse_body(body), operations())


def test_filter_takes_what_the_sdks_send() -> None:
    sent = {"type": "Workflow", "orderByTime": "Desc", "states": "All", "size": "10", "nextToken": ""}
    found = read_batch_filter(lambda name: sent.get(name, ""))
    assert (found.kind, found.states, found.newest_first, found.after) == (BatchKind.WORKFLOW, frozenset(), True, None)
    with pytest.raises(InvalidArgument, match="type is 'Other'"):
        read_batch_filter(lambda name: "Other" if name == "type" else "")


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("https://b-125.cos.ap-x.myqcloud.com/a%20b/c%2Fd?x=1#y", Listed("b-125", "a b/c/d")),
        ("http://b-125.cos-internal.ap-x.myqcloud.com/a", Listed("b-125", "a")),
        ("http://127.0.0.1:9000/a", Listed("", "a")),
        ("  /a b\r\n", Listed("", "a b")),
        ("", None),
        ("http://[", Listed("", "")),
    ],
)
def test_line_of_a_url_file_names_an_object(line: str, listed: Listed | None) -> None:
    assert read_url_line(line) == listed


def test_row_of_an_inventory_names_an_object() -> None:
    columns = read_manifest(b'{"fileSchema": "Bucket, Key , LastModifiedDate", "files": []}').columns
    row = '"b-125","a%20%22b","2026-01-05T10:00:00.000Z"'
    assert read_inventory_row(row, columns) == Listed("b-125", 'a "b', datetime(2026, 1, 5, 10, tzinfo=UTC))
    assert read_inventory_row("b-125,a,soon", columns) == Listed("b-125", "a", None)
    with pytest.raises(InvalidContent, match="has 1 cells"):
        read_inventory_row("b-125", columns)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"files": [1], "fileSchema": "Key"}',
        b'{"files": [], "fileSchema": "Key", "fileFormat": "ORC"}',
    ],
)
def test_manifest_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidContent):
        read_manifest(body)


@given(st.text(), st.binary())
def test_any_list_is_read_or_refused(text: str, data: bytes) -> None:
    read_url_line(text)
    for read in (lambda: read_inventory_row(text, ["bucket", "key"]), lambda: read_manifest(data)):
        try:
            read()
        except RequestError:
            continue

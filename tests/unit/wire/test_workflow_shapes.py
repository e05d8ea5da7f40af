"""Each document of workflows and runs against its golden message."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloudfinite.domain.execution import Execution, ExecutionState, PlannedStep, RunSource, RunTask, StepRun
from cloudfinite.domain.job import CallbackFormat, Job, JobInput, JobOutput, JobState, StepOf
from cloudfinite.domain.workflow import Start, Workflow, WorkflowState
from cloudfinite.operations import operations
from cloudfinite.wire.nodes import Node, to_json, to_xml
from cloudfinite.wire.shapes import answer, callback_body, page_answer
from cloudfinite.wire.workflow_shapes import (
    execution_node,
    executions_answer,
    workflow_finish_body,
    workflow_node,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "workflows"
BUCKET, REGION = "demo-1250000000", "ap-guangzhou"
REQUEST_ID = "NjM3YmY2YTJfMTEyMl9hYWJi"
TOPOLOGY = (
    "<Topology><Dependencies><Start>PicProcess_1</Start><PicProcess_1>ImageOCR_1</PicProcess_1>"
    "<ImageOCR_1>End</ImageOCR_1></Dependencies><Nodes><Start><Type>Start</Type><Input><ObjectPrefix>incoming/"
    "</ObjectPrefix><NotifyConfig><Url>http://127.0.0.1:9000/hook</Url><Event>TaskFinish</Event></NotifyConfig></Input>"
    "</Start><PicProcess_1><Type>PicProcess</Type><Operation><PicProcess><ProcessRule>imageMogr2/rotate/90"
    "</ProcessRule></PicProcess><Output><Object>turned/${InputName}.${Ext}</Object></Output></Operation></PicProcess_1>"
    "<ImageOCR_1><Type>ImageOCR</Type><Operation><TemplateId>t1ffeeddccbbaa99887766554433221100</TemplateId>"
    "</Operation></ImageOCR_1></Nodes></Topology>"
)
DETECTION = {
    "angle": "0",
    "pdf_page_count": 0,
    "language": "",
    "lines": [
        {
            "confidence": 97,
            "text": "TOTAL 12.50",
            "box": {"height": 30, "width": 160, "x": 40, "y": 80},
            "corners": [{"x": 40, "y": 80}, {"x": 199, "y": 80}, {"x": 199, "y": 109}, {"x": 40, "y": 109}],
        }
    ],
}


def at(second: int) -> datetime:
    """Then by the clocks of the samples: 10:01 in China."""
    return datetime(2026, 11, 22, 2, 1, second, tzinfo=UTC)


WORKFLOW = Workflow(
    id="w0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    bucket=BUCKET,
    name="ocr-incoming",
    state=WorkflowState.ACTIVE,
    topology=TOPOLOGY,
    start=Start("incoming/"),
    steps=(),
    created_at=at(0),
    updated_at=at(3),
)
OCR_STEP = PlannedStep(
    "ImageOCR_1", "ImageOCR", "ImageOCR", "p00112233445566778899aabbccddeeff", {"mode": "general"}, ("PicProcess_1",),
    "t1ffeeddccbbaa99887766554433221100", "receipts",
)  # fmt: skip
PICTURE_STEP = PlannedStep(
    "PicProcess_1", "PicProcess", "PicProcess", "p00112233445566778899aabbccddeef0", {"rule": "imageMogr2/rotate/90"},
    output=JobOutput(BUCKET, REGION, "turned/${InputName}.${Ext}"),
)  # fmt: skip
RUN = Execution(
    id="i5a5a5a5a11ef8899aabbccddeeff0011",
    workflow_id=WORKFLOW.id,
    workflow_name=WORKFLOW.name,
    bucket=BUCKET,
    region=REGION,
    source=RunSource(
        key="incoming/page 1.png",
        size_bytes=20481,
        headers={"x-cos-meta-zone": "b", "x-cos-meta-customer": "42", "Content-Type": "image/png"},
        event_id="e",
        event_name="cos:ObjectCreated:Put",
        request_id="NjM3YmY2YTJfMTEyMl9hYWJm",
    ),
    topology=TOPOLOGY,
    plan=(PICTURE_STEP, OCR_STEP),
    created_at=at(0),
    state=ExecutionState.SUCCESS,
    ended_at=at(3),
)


def job_of(step: PlannedStep, key: str, **more: Any) -> Job:
    letter = "a" if step.tag == "ImageOCR" else "c"
    return Job(
        id=f"{letter}1111222233334444555566667777888f",
        bucket=BUCKET,
        region=REGION,
        tag=step.tag,
        queue_id=step.queue_id,
        input=JobInput(key),
        params=step.params,
        template_id=step.template_id,
        template_name=step.template_name,
        step_of=StepOf(RUN.id, step.name),
        **{"created_at": at(0), "started_at": at(1), "ended_at": at(2), "state": JobState.SUCCESS, **more},
    )


def task_of(step: PlannedStep, job: Job, output_key: str = "") -> RunTask:
    return RunTask(step, StepRun(step.name, job.id, job.state, output_key), job)


TURNED = "turned/page 1.png"
PICTURE = task_of(PICTURE_STEP, job_of(PICTURE_STEP, RUN.source.key), TURNED)
OCR = task_of(OCR_STEP, job_of(OCR_STEP, TURNED, created_at=at(2), started_at=at(2), ended_at=at(3), result=DETECTION))
FAILED = task_of(
    OCR_STEP,
    job_of(
        OCR_STEP, TURNED, state=JobState.FAILED, code="ResourceNotFound", message="the specified object does not exist"
    ),
)
RUNNING = task_of(OCR_STEP, job_of(OCR_STEP, TURNED, state=JobState.RUNNING, ended_at=None))
FAILED_RUN = replace(RUN, state=ExecutionState.FAILED)
RUNNING_RUN = replace(RUN, state=ExecutionState.RUNNING, ended_at=None)
BY_HAND = replace(RUN, source=RunSource("incoming/page 1.png", 20481, {}))

ANSWERS: dict[str, Node] = {
    "workflow": answer(REQUEST_ID, workflow_node(WORKFLOW)),
    "workflow-list": page_answer(REQUEST_ID, 1, 1, 10, [workflow_node(WORKFLOW, "MediaWorkflowList")]),
    "execution": answer(REQUEST_ID, execution_node(RUN, [PICTURE, OCR], operations())),
    "execution-running": answer(REQUEST_ID, execution_node(RUNNING_RUN, [PICTURE, RUNNING], operations())),
    "execution-list": executions_answer(REQUEST_ID, [RUN, FAILED_RUN], "17-a"),
    "execution-list-empty": executions_answer(REQUEST_ID, [], ""),
}


def told(form: CallbackFormat) -> dict[str, bytes]:
    known = operations()
    assert OCR.job and FAILED.job
    return {
        "task-finish": callback_body(OCR.job, known["ImageOCR"], form, wrapped=True, run=RUN)[1],
        "task-finish-by-hand": callback_body(FAILED.job, known["ImageOCR"], form, wrapped=True, run=BY_HAND)[1],
        "workflow-finish": workflow_finish_body(RUN, [PICTURE, OCR], known, form)[1],
        "workflow-finish-failed": workflow_finish_body(FAILED_RUN, [PICTURE, FAILED], known, form)[1],
        "workflow-start": workflow_finish_body(RUNNING_RUN, [], known, form, event="WorkflowStart")[1],
    }


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_has_the_golden_bytes(name: str) -> None:
    assert to_xml(ANSWERS[name]).decode() == (GOLDEN / f"{name}.xml").read_text()
    assert to_json(ANSWERS[name]).decode() == (GOLDEN / f"{name}.json").read_text()


@pytest.mark.parametrize("form", CallbackFormat)
@pytest.mark.parametrize("name", told(CallbackFormat.XML))
def test_notification_has_the_golden_bytes(name: str, form: CallbackFormat) -> None:
    assert told(form)[name].decode() == (GOLDEN / f"{name}.{form.lower()}").read_text()

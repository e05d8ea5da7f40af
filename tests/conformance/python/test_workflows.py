"""Each call on workflows and their runs with the official Python SDK, and each kind of bad input."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qcloud_cos import CosS3Client
from tests.conformance.python.test_jobs import error_of

from cloudfinite.testing import Server

GOLDEN = Path(__file__).parents[2] / "golden" / "workflows"
BUCKET = Server.bucket
HI = {"lines": [{"text": "Hi", "box": [10, 5, 30, 20]}]}
pytestmark = pytest.mark.sdk


@pytest.fixture(scope="module")
def template_id(client: CosS3Client) -> str:
    template = {"Tag": "ImageOCR", "Name": "for-workflows", "ImageOCR": {"Type": "general"}}
    return str(client.ci_create_template(Bucket=BUCKET, Template=template)["Template"]["TemplateId"])


def ocr_workflow(template_id: str, prefix: str = "in/", **start: Any) -> dict[str, Any]:
    """The body of a workflow with one step."""
    return {
        "MediaWorkflow": {
            "Name": "ocr-incoming",
            "Topology": {
                "Dependencies": {"Start": "ImageOCR_1", "ImageOCR_1": "End"},
                "Nodes": {
                    "Start": {"Type": "Start", "Input": {"ObjectPrefix": prefix, **start}},
                    "ImageOCR_1": {"Type": "ImageOCR", "Operation": {"TemplateId": template_id}},
                },
            },
        }
    }


def notify(url: str, form: str = "XML", event: str = "TaskFinish,WorkflowFinish") -> dict[str, str]:
    return {"State": "On", "Type": "Url", "Url": url, "Event": event, "ResultFormat": form}


@pytest.fixture
def workflow_id(client: CosS3Client, template_id: str) -> Iterator[str]:
    """A paused workflow, deleted afterwards unless the test did."""
    created = client.ci_create_workflow(Bucket=BUCKET, Body=ocr_workflow(template_id))
    found = created["MediaWorkflow"]["WorkflowId"]
    yield found
    if client.ci_get_workflow(Bucket=BUCKET, Ids=found).get("MediaWorkflowList"):
        client.ci_update_workflow_state(Bucket=BUCKET, WorkflowId=found, UpdateState="paused")
        client.ci_delete_workflow(Bucket=BUCKET, WorkflowId=found)


def wait_for_run(client: CosS3Client, run_id: str, *states: str) -> dict[str, Any]:
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        [run] = client.ci_get_workflowexecution(Bucket=BUCKET, RunId=run_id)["WorkflowExecution"]
        if run["State"] in (states or ("Success", "Failed")):
            return dict(run)
        time.sleep(0.02)
    raise AssertionError(f"{run_id} is still {run['State']}")


# --- workflows -----------------------------------------------------------------------------------------------------


def test_workflow_is_answered_as_it_was_sent(client: CosS3Client, template_id: str) -> None:
    body = ocr_workflow(template_id, NotifyConfig=notify("http://127.0.0.1:1/x"), SamplingConfig={"Ratio": "10"})
    answer = client.ci_create_workflow(Bucket=BUCKET, Body=body)
    made = answer["MediaWorkflow"]
    assert list(made) == ["Name", "State", "WorkflowId", "BucketId", "CreateTime", "UpdateTime", "Topology"]
    assert (made["Name"], made["State"], made["BucketId"]) == ("ocr-incoming", "Paused", BUCKET)
    assert re.fullmatch("w[0-9a-f]{32}", made["WorkflowId"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0800", made["CreateTime"])
    assert made["Topology"] == body["MediaWorkflow"]["Topology"]
    client.ci_delete_workflow(Bucket=BUCKET, WorkflowId=made["WorkflowId"])


def test_workflow_is_changed_while_it_is_paused(client: CosS3Client, workflow_id: str, template_id: str) -> None:
    body = ocr_workflow(template_id, "other/")
    body["MediaWorkflow"] |= {"Name": "renamed", "State": "Active"}
    changed = client.ci_update_workflow(Bucket=BUCKET, WorkflowId=workflow_id, Body=body)["MediaWorkflow"]
    assert (changed["WorkflowId"], changed["Name"], changed["State"]) == (workflow_id, "renamed", "Active")
    status, code, message = error_of(
        client.ci_update_workflow, Bucket=BUCKET, WorkflowId=workflow_id, Body=ocr_workflow(template_id)
    )
    assert (status, code) == (400, "InvalidArgument")
    assert f"the workflow {workflow_id} is Active; pause it first: PUT /workflow/{workflow_id}?paused" in message
    assert error_of(client.ci_delete_workflow, Bucket=BUCKET, WorkflowId=workflow_id)[:2] == (400, "InvalidArgument")
    [kept] = client.ci_get_workflow(Bucket=BUCKET, Ids=workflow_id)["MediaWorkflowList"]
    assert (kept["Name"], kept["Topology"]) == ("renamed", body["MediaWorkflow"]["Topology"])


@pytest.mark.parametrize(("word", "state"), [("active", "Active"), ("paused", "Paused")])
def test_workflow_is_switched(client: CosS3Client, workflow_id: str, word: str, state: str) -> None:
    for _ in range(2):  # again is harmless
        answer = client.ci_update_workflow_state(Bucket=BUCKET, WorkflowId=workflow_id, UpdateState=word)
        assert answer["MediaWorkflow"]["State"] == state


def test_workflows_are_found_by_id_and_name_page_by_page(client: CosS3Client, template_id: str) -> None:
    made = []
    for number in range(3):
        body = ocr_workflow(template_id)
        body["MediaWorkflow"]["Name"] = f"paged-{number}"
        made.append(client.ci_create_workflow(Bucket=BUCKET, Body=body)["MediaWorkflow"]["WorkflowId"])
    first = client.ci_get_workflow(Bucket=BUCKET, Name="paged-", PageNumber="1", PageSize="2")
    assert (first["TotalCount"], first["PageNumber"], first["PageSize"]) == ("3", "1", "2")
    second = client.ci_get_workflow(Bucket=BUCKET, Name="paged-", PageNumber="2", PageSize="2")
    listed = [one["WorkflowId"] for page in (first, second) for one in page["MediaWorkflowList"]]
    assert listed == made[::-1]
    by_id = client.ci_get_workflow(Bucket=BUCKET, Ids=f"{made[0]},wnone")
    assert [one["WorkflowId"] for one in by_id["MediaWorkflowList"]] == [made[0]]
    assert by_id["NonExistIDs"] == "wnone"
    for workflow_id in made:
        answer = client.ci_delete_workflow(Bucket=BUCKET, WorkflowId=workflow_id)
        assert answer["WorkflowId"] == workflow_id
    assert client.ci_get_workflow(Bucket=BUCKET, Name="paged-")["TotalCount"] == "0"


def test_another_buckets_workflow_does_not_exist(client: CosS3Client, workflow_id: str) -> None:
    other = "test-1234567890"
    assert "MediaWorkflowList" not in client.ci_get_workflow(Bucket=other, Ids=workflow_id)
    for call in (client.ci_delete_workflow, client.ci_trigger_workflow):
        more = {"Key": "a"} if call == client.ci_trigger_workflow else {}
        assert error_of(call, Bucket=other, WorkflowId=workflow_id, **more)[:2] == (404, "WorkflowNotFound")


def change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The body with the node at the path replaced, or left out for None."""
    changed = copy.deepcopy(body)
    *parents, name = path.split(".")
    place = changed["MediaWorkflow"]
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[name]
    else:
        place[name] = value
    return changed


STEP = "Topology.Nodes.ImageOCR_1"
START = "Topology.Nodes.Start.Input"
NOTIFY = {"Url": "http://127.0.0.1:1/", "Event": "TaskFinish"}
WRONG = [
    ("Name", "a b", "InvalidArgument", "MediaWorkflow.Name is 'a b'; it must be 1 to 128 letters"),
    ("Name", "n" * 129, "InvalidArgument", "it must be 1 to 128 letters"),
    ("State", "On", "InvalidArgument", "MediaWorkflow.State is 'On'; it must be Active or Paused"),
    ("Topology", None, "InvalidArgument", "Request needs a MediaWorkflow node with Name and Topology"),
    ("Topology.Nodes", None, "InvalidArgument", "Topology needs the nodes Dependencies and Nodes"),
    (f"{STEP}.Type", "Transcode", "InvalidArgument", "Nodes.ImageOCR_1 has the Type Transcode; its name must start"),
    (f"{STEP}.Operation", None, "InvalidArgument", "Nodes.ImageOCR_1 needs an Operation node"),
    (f"{STEP}.Operation", {"UserData": "x"}, "InvalidArgument", "Nodes.ImageOCR_1: Operation needs TemplateId or Im"),
    (
        f"{STEP}.Operation",
        {"ImageOCR": {"Type": "loud"}},
        "InvalidArgument",
        "Nodes.ImageOCR_1: ImageOCR.Type is 'loud'; it must be one of general",
    ),
    (
        f"{STEP}.Operation.TemplateId",
        "t1nobody",
        "TemplateNotFound",
        "Nodes.ImageOCR_1: the template t1nobody does not exist",
    ),
    (START, {"QueueId": "x"}, "InvalidArgument", "Nodes.Start needs an Input with an ObjectPrefix"),
    (f"{START}.QueueId", "pnobody", "QueueNotFound", "Nodes.Start names the queue pnobody, which does not exist"),
    (f"{START}.NotifyConfig", NOTIFY | {"Url": ""}, "InvalidArgument", "NotifyConfig is on, so it needs Url and Eve"),
    (f"{START}.NotifyConfig", NOTIFY | {"Url": "ftp://a"}, "InvalidArgument", "it must start with http:// or https://"),
    (f"{START}.NotifyConfig", NOTIFY | {"Event": "All"}, "InvalidArgument", "NotifyConfig.Event names 'All'; it must"),
    (f"{START}.NotifyConfig", NOTIFY | {"Type": "TDMQ"}, "InvalidArgument", "NotifyConfig.Type is 'TDMQ'; this serv"),
    (f"{START}.NotifyConfig", NOTIFY | {"State": "yes"}, "InvalidArgument", "NotifyConfig.State is 'yes'; it must be"),
    (f"{START}.ExtFilter", {"State": "1"}, "InvalidArgument", "ExtFilter.State is '1'; it must be On or Off"),
    (f"{START}.ExtFilter", {"Image": "1"}, "InvalidArgument", "ExtFilter.Image is '1'; it must be true or false"),
    (f"{START}.ExtFilter", {"Custom": "true"}, "InvalidArgument", "CustomExts names 0 extensions; with Custom it must"),
    (
        f"{START}.ExtFilter",
        {"Custom": "true", "CustomExts": "/".join("abcdefghijk")},
        "InvalidArgument",
        "CustomExts names 11 extensions",
    ),
]


@pytest.mark.parametrize(("path", "value", "code", "message"), WRONG)
def test_wrong_workflow_is_refused_naming_the_node(
    client: CosS3Client, template_id: str, path: str, value: Any, code: str, message: str
) -> None:
    body = change(ocr_workflow(template_id), path, value)
    status, found, text = error_of(client.ci_create_workflow, Bucket=BUCKET, Body=body)
    assert (status, found) == (404 if code.endswith("NotFound") else 400, code)
    assert message in text


def test_template_of_another_tag_is_refused(client: CosS3Client, template_id: str) -> None:
    body = ocr_workflow(template_id)["MediaWorkflow"]
    body["Topology"]["Dependencies"] = {"Start": "PicProcess_1", "PicProcess_1": "End"}
    nodes = body["Topology"]["Nodes"]
    output = {"Region": Server.region, "Bucket": BUCKET, "Object": "out/${InputName}.${Ext}"}
    nodes["PicProcess_1"] = {"Type": "PicProcess", "Operation": {"TemplateId": template_id, "Output": output}}
    del nodes["ImageOCR_1"]
    _, _, message = error_of(client.ci_create_workflow, Bucket=BUCKET, Body={"MediaWorkflow": body})
    assert f"Nodes.PicProcess_1: the template {template_id} is for the tag ImageOCR, not PicProcess" in message


# --- runs ----------------------------------------------------------------------------------------------------------


def test_run_by_hand_is_shown_with_its_tasks(client: CosS3Client, workflow_id: str) -> None:
    client.put_object(Bucket=BUCKET, Key="by hand/a b.png", Body=json.dumps(HI).encode())
    run_id = client.ci_trigger_workflow(Bucket=BUCKET, WorkflowId=workflow_id, Key="by hand/a b.png")["InstanceId"]
    assert re.fullmatch("i[0-9a-f]{32}", run_id)
    run = wait_for_run(client, run_id)
    assert (run["State"], run["WorkflowId"], run["Object"]) == ("Success", workflow_id, "by hand/a b.png")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00", run["CreateTime"])
    task = run["Tasks"]
    assert (task["Type"], task["Name"], task["State"], task["Code"]) == ("ImageOCR", "ImageOCR_1", "Success", "Success")
    assert task["ResultInfo"]["ObjectInfo"]["ObjectUrl"].endswith(".cos.ap-chongqing.myqcloud.com/by%20hand/a%20b.png")


def list_runs(client: CosS3Client, workflow_id: str, **wanted: Any) -> tuple[list[str], str]:
    """Ids of the runs on a page, and the next page's token."""
    answer = client.ci_list_workflowexecution(Bucket=BUCKET, WorkflowId=workflow_id, **wanted)
    found = answer.get("WorkflowExecutionList") or []
    return [run["RunId"] for run in (found if isinstance(found, list) else [found])], answer["NextToken"] or ""


def test_runs_are_listed_with_every_filter(client: CosS3Client, workflow_id: str) -> None:
    client.put_object(Bucket=BUCKET, Key="there.png", Body=b"{}")
    made = []
    for key in ("there.png", "gone.png", "there.png"):
        made.append(client.ci_trigger_workflow(Bucket=BUCKET, WorkflowId=workflow_id, Key=key)["InstanceId"])
        wait_for_run(client, made[-1])
    first, second, third = made
    assert list_runs(client, workflow_id) == ([third, second, first], "")
    assert list_runs(client, workflow_id, OrderByTime="Asc")[0] == made
    assert list_runs(client, workflow_id, States="Failed")[0] == [second]
    assert list_runs(client, workflow_id, States="Success,Running")[0] == [third, first]
    assert list_runs(client, workflow_id, Name="gone.png")[0] == [second]
    assert list_runs(client, workflow_id, BatchJobId="bnone")[0] == []
    assert list_runs(client, workflow_id, StartCreationTime="2099-01-01T00:00:00+0800")[0] == []
    assert list_runs(client, workflow_id, EndCreationTime="2001-01-01T00:00:00+0800")[0] == []
    page, token = list_runs(client, workflow_id, Size=2)
    assert (page, list_runs(client, workflow_id, Size=2, NextToken=token)) == ([third, second], ([first], ""))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"WorkflowId": ""}, "the parameter workflowId is missing"),
        ({"OrderByTime": "Up"}, "orderByTime is 'Up'; it must be Desc or Asc"),
        ({"States": "Done"}, "states is 'Done'; it must be a list of All, Running, Success, Failed, Cancel"),
        ({"Size": 101}, "size is 101; it must be a whole number from 1 to 100"),
        ({"NextToken": "x"}, "nextToken is 'x'; send the NextToken of the page before"),
        ({"StartCreationTime": "today"}, "startCreationTime: 'today' is not a time like"),
    ],
)
def test_wrong_filter_of_runs_is_named(client: CosS3Client, wanted: dict[str, Any], message: str) -> None:
    given = {"Bucket": BUCKET, "WorkflowId": "w1", **wanted}
    assert message in error_of(client.ci_list_workflowexecution, **given)[2]


def test_unknown_run_does_not_exist(client: CosS3Client) -> None:
    assert error_of(client.ci_get_workflowexecution, Bucket=BUCKET, RunId="i1")[:2] == (404, "ExecutionNotFound")


def test_trigger_without_an_object_is_refused(client: CosS3Client, workflow_id: str) -> None:
    _, code, message = error_of(client.ci_trigger_workflow, Bucket=BUCKET, WorkflowId=workflow_id, Key="")
    assert (code, message) == ("InvalidArgument", "the parameter object is missing")


# --- notifications -------------------------------------------------------------------------------------------------


def with_placeholders(body: bytes) -> str:
    text = body.decode()
    for name, placeholder in (
        ("CreationTime", "TIME"), ("CreateTime", "TIME"), ("StartTime", "TIME"), ("EndTime", "TIME"), ("JobId", "JOB"),
        ("QueueId", "QUEUE"), ("TemplateId", "TEMPLATE"), ("RunId", "RUN"), ("WorkflowId", "WORKFLOW"),
    ):  # fmt: skip
        text = re.sub(f'(<{name}>|"{name}":")[^<"]+', rf"\g<1>{{{placeholder}}}", text)
    for before, after in (("(<Key>x-cos-request-id</Key><Value>)", "<"), ('("x-cos-request-id","Value":")', '"')):
        text = re.sub(f"{before}[^{after}]+", r"\g<1>{REQUEST}", text)
    return text


@pytest.mark.parametrize("form", ["XML", "JSON"])
def test_upload_is_told_of_to_the_letter(client: CosS3Client, server: Server, template_id: str, form: str) -> None:
    inbox = f"upload-{form.lower()}"
    body = ocr_workflow(template_id, f"{inbox}/", NotifyConfig=notify(server.inbox(inbox), form))
    body["MediaWorkflow"]["State"] = "Active"
    workflow_id = client.ci_create_workflow(Bucket=BUCKET, Body=body)["MediaWorkflow"]["WorkflowId"]
    upload = client.put_object(
        Bucket=BUCKET, Key=f"{inbox}/hi.png", Body=json.dumps(HI).encode(), ContentType="image/png",
        Metadata={"x-cos-meta-zone": "b", "x-cos-meta-customer": "42"},
    )  # fmt: skip
    received = server.wait_for_callbacks(inbox, 2)
    told = {re.search(rb'EventName["<>:]+(\w+)', one.body)[1].decode(): one for one in received}  # type: ignore[index]
    for event, name in (("TaskFinish", "sdk-task-finish"), ("WorkflowFinish", "sdk-workflow-finish")):
        golden = (GOLDEN / f"{name}.{form.lower()}").read_text()
        assert with_placeholders(told[event].body).replace(inbox, "{FOLDER}") == golden
        assert told[event].headers["content-type"] == f"application/{form.lower()}"
        assert upload["x-cos-request-id"].encode() in told[event].body
    client.ci_update_workflow_state(Bucket=BUCKET, WorkflowId=workflow_id, UpdateState="paused")
    client.ci_delete_workflow(Bucket=BUCKET, WorkflowId=workflow_id)


def test_picture_is_turned_and_then_read(client: CosS3Client, server: Server) -> None:
    picture = BytesIO()
    Image.new("RGB", (40, 20), "white").save(picture, "PNG")
    client.put_object(Bucket=BUCKET, Key="chain/a.png", Body=picture.getvalue())
    output = {"Region": Server.region, "Bucket": BUCKET, "Object": "turned/${RunId}/${InputName}.${Ext}"}
    body = {
        "MediaWorkflow": {
            "Name": "turn-and-read",
            "Topology": {
                "Dependencies": {"Start": "PicProcess_1", "PicProcess_1": "FileHashCode_1", "FileHashCode_1": "End"},
                "Nodes": {
                    "Start": {
                        "Type": "Start",
                        "Input": {"ObjectPrefix": "", "NotifyConfig": notify(server.inbox("chain"))},
                    },
                    "PicProcess_1": {
                        "Type": "PicProcess",
                        "Operation": {"PicProcess": {"ProcessRule": "imageMogr2/rotate/90"}, "Output": output},
                    },
                    "FileHashCode_1": {
                        "Type": "FileHashCode",
                        "Operation": {"FileHashCodeConfig": {"Type": "MD5"}},
                    },
                },
            },
        }
    }
    workflow_id = client.ci_create_workflow(Bucket=BUCKET, Body=body)["MediaWorkflow"]["WorkflowId"]
    run_id = client.ci_trigger_workflow(Bucket=BUCKET, WorkflowId=workflow_id, Key="chain/a.png")["InstanceId"]
    run = wait_for_run(client, run_id)
    assert (run["State"], [task["Name"] for task in run["Tasks"]]) == ("Success", ["PicProcess_1", "FileHashCode_1"])
    turned = run["Tasks"][1]["ResultInfo"]["ObjectInfo"]["InputObjectName"]
    assert turned == f"turned/{run_id}/a.png" == run["Tasks"][0]["ResultInfo"]["ObjectInfo"]["ObjectName"]
    data = client.get_object(Bucket=BUCKET, Key=turned)["Body"].get_raw_stream().read()
    assert Image.open(BytesIO(data)).size == (20, 40)
    assert len(server.wait_for_callbacks("chain", 3)) == 3

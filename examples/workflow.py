"""Turn each picture that is uploaded and then read it: a workflow, with the vendor's Python SDK unchanged.

    python examples/workflow.py page.png --server http://127.0.0.1:9000 --secret-id … --secret-key …

Makes the workflow, puts the picture, and prints what the two steps did and which callbacks came.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

from qcloud_cos import CosConfig, CosS3Client

INBOX = "workflow-example"
POLL_S = 0.2
WAIT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:9000")
    parser.add_argument("--secret-id", default=os.environ.get("CLOUDFINITE_SECRET_ID"))
    parser.add_argument("--secret-key", default=os.environ.get("CLOUDFINITE_SECRET_KEY"))
    parser.add_argument("--bucket", default="examplebucket-1250000000")
    parser.add_argument("--region", default="ap-chongqing")
    options = parser.parse_args()
    client = CosS3Client(
        CosConfig(
            Region=options.region,
            SecretId=options.secret_id,
            SecretKey=options.secret_key,
            Scheme="http",
            Proxies={"http": options.server},  # all that is different from the vendor's own service
        )
    )
    body = workflow(options.bucket, options.region, f"{options.server}/-/inbox/{INBOX}")
    workflow_id = client.ci_create_workflow(Bucket=options.bucket, Body=body)["MediaWorkflow"]["WorkflowId"]
    try:
        # From here on every picture below incoming/ is turned and read; nobody has to ask for it.
        key = f"incoming/{options.picture.name}"
        client.put_object(Bucket=options.bucket, Key=key, Body=options.picture.read_bytes())
        run = wait_for_run(client, options.bucket, workflow_id)
        print(f"{run['State']}: {run['Object']}")
        for task in run["Tasks"]:
            made = task["ResultInfo"]["ObjectInfo"]
            print(f"  {task['Name']}: {task['State']}, {made['InputObjectName']} -> {made['ObjectName']}")
        print("callbacks: " + ", ".join(wait_for_events(options.server, 3)))
    finally:
        # An Active workflow is neither changed nor deleted.
        client.ci_update_workflow_state(Bucket=options.bucket, WorkflowId=workflow_id, UpdateState="paused")
        client.ci_delete_workflow(Bucket=options.bucket, WorkflowId=workflow_id)


def workflow(bucket: str, region: str, url: str) -> dict[str, Any]:
    return {
        "MediaWorkflow": {
            "Name": "turn-and-read",
            "State": "Active",
            "Topology": {
                "Dependencies": {"Start": "PicProcess_1", "PicProcess_1": "ImageOCR_1", "ImageOCR_1": "End"},
                "Nodes": {
                    "Start": {
                        "Type": "Start",
                        "Input": {
                            "ObjectPrefix": "incoming/",
                            "ExtFilter": {"State": "On", "Image": "true"},
                            "NotifyConfig": {
                                "State": "On",
                                "Type": "Url",
                                "Url": url,
                                "Event": "TaskFinish,WorkflowFinish",
                                "ResultFormat": "JSON",
                            },
                        },
                    },
                    "PicProcess_1": {
                        "Type": "PicProcess",
                        "Operation": {
                            "PicProcess": {"ProcessRule": "imageMogr2/rotate/90"},
                            "Output": {"Region": region, "Bucket": bucket, "Object": "turned/${InputNameAndExt}"},
                        },
                    },
                    "ImageOCR_1": {"Type": "ImageOCR", "Operation": {"ImageOCR": {"Type": "general"}}},
                },
            },
        }
    }


def wait_for_run(client: CosS3Client, bucket: str, workflow_id: str) -> dict[str, Any]:
    """The run that the upload started, once it has ended."""
    ends_at = time.monotonic() + WAIT_S
    while time.monotonic() < ends_at:
        listed = client.ci_list_workflowexecution(Bucket=bucket, WorkflowId=workflow_id, States="Success,Failed")
        if found := listed.get("WorkflowExecutionList"):
            run_id = found["RunId"]
            [run] = client.ci_get_workflowexecution(Bucket=bucket, RunId=run_id)["WorkflowExecution"]
            return dict(run)
        time.sleep(POLL_S)  # the SDK has no call that waits
    raise SystemExit(f"no run of {workflow_id} had ended after {WAIT_S:.0f} s")


def wait_for_events(server: str, count: int) -> list[str]:
    """The events that the server's own inbox, a receiver for development, has taken."""
    ends_at = time.monotonic() + WAIT_S
    while time.monotonic() < ends_at:
        messages = read_json(f"{server}/-/inbox/{INBOX}")["messages"]
        if len(messages) >= count:
            bodies = [read_json(f"{server}/-/inbox/{INBOX}/{message['id']}") for message in messages]
            return sorted(body.get("EventName") or body["Response"]["EventName"] for body in bodies)
        time.sleep(POLL_S)  # the SDK has no call that waits
    raise SystemExit(f"fewer than {count} callbacks came within {WAIT_S:.0f} s")


def read_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()

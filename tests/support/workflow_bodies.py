"""Workflows as tests want them: steps by name, and what follows what."""

from __future__ import annotations

from collections.abc import Mapping

from cloudfinite.domain.workflow import WorkflowRequest
from cloudfinite.operations import operations
from cloudfinite.wire.documents import parse_body
from cloudfinite.wire.workflows import read_workflow

OPERATIONS = {
    "ImageOCR": "<ImageOCR><Type>general</Type></ImageOCR>",
    "FileHashCode": "<FileHashCodeConfig><Type>MD5</Type></FileHashCodeConfig>",
    "PicProcess": "<PicProcess><ProcessRule>imageMogr2/rotate/90</ProcessRule></PicProcess>",
}


def workflow_body(
    dependencies: Mapping[str, str],
    bucket: str,
    region: str,
    *,
    name: str = "wf",
    state: str = "Paused",
    start: str = "",
) -> str:
    """A body for `POST /workflow`; each step has its name's type. `start` is more of Start.Input."""
    edges = "".join(f"<{step}>{following}</{step}>" for step, following in dependencies.items())
    nodes = "".join(_node(step, bucket, region) for step in dependencies if step != "Start")
    return (
        f"<Request><MediaWorkflow><Name>{name}</Name><State>{state}</State><Topology><Dependencies>{edges}"
        f"</Dependencies><Nodes><Start><Type>Start</Type><Input><ObjectPrefix>in/</ObjectPrefix></Input></Start>"
        f"{nodes}</Nodes></Topology></MediaWorkflow></Request>"
    )


def _node(step: str, bucket: str, region: str) -> str:
    kind = step.partition("_")[0]
    output = (
        f"<Output><Region>{region}</Region><Bucket>{bucket}</Bucket><Object>out/{step}/${{InputName}}</Object></Output>"
    )
    made = output if operations()[kind].produces else ""
    return f"<{step}><Type>{kind}</Type><Operation>{OPERATIONS[kind]}{made}</Operation></{step}>"


def workflow_request(dependencies: Mapping[str, str], bucket: str, region: str, **more: str) -> WorkflowRequest:
    """The same as the service takes it."""
    return read_workflow(parse_body(workflow_body(dependencies, bucket, region, **more).encode()), operations())

"""Requests as the official SDKs sent them: each signature holds at its recorded time, and each path finds its call.

Heads marked (altered) were changed when they were written down; those are signed anew over the same lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from multidict import CIMultiDict
from tests.edge_harness import SECRET_ID, SECRET_KEY, Harness, KnownFacts, running_edge

from cloudfinite.errors import NotImplementedHere, SignatureDoesNotMatch
from cloudfinite.web.request import Query
from cloudfinite.wire.routing import Hosts, decode_path, locate, parse_query, split_target
from cloudfinite.wire.signature import CI_REFUSALS, SignedRequest, encode, parse_credential, sign, verify

FOLDER = Path(__file__).parents[2] / "golden" / "requests"


@dataclass(frozen=True)
class Recorded:
    """One recorded head."""

    name: str
    line: str
    headers: CIMultiDict[str]

    @property
    def is_altered(self) -> bool:
        return self.name.endswith("(altered)")

    @property
    def signed(self) -> SignedRequest:
        method, raw, _ = self.line.split(" ")
        target = split_target(raw)
        host = target.authority or self.headers["Host"]
        return SignedRequest(
            method, host, decode_path(target.path), target.path, parse_query(target.query), self.headers
        )

    @property
    def at_s(self) -> int:
        credential = parse_credential(self.headers["Authorization"], self.signed.params)
        assert credential is not None
        return int(credential.sign_time.partition(";")[0]) + 1


def sign_anew(recorded: Recorded) -> None:
    """Put a signature by the same key, at the same time, over the same lists in place of one that does not fit."""
    signed = recorded.signed
    credential = parse_credential(recorded.headers["Authorization"], signed.params)
    assert credential is not None
    start_s, end_s = map(int, credential.sign_time.split(";"))
    listed = {encode(name).lower(): (name, value) for name, value in signed.params}
    recorded.headers["Authorization"] = sign(
        signed.method,
        signed.path,
        secret_id=SECRET_ID,
        secret_key=SECRET_KEY,
        start_s=start_s,
        end_s=end_s,
        headers=[(name, recorded.headers.get(name, "")) for name in credential.header_list],
        params=[listed[name] for name in credential.param_list],
    )


def load() -> list[Recorded]:
    found = []
    for path in sorted(FOLDER.glob("*.http")):
        for part in path.read_text().split("\n### ")[1:]:
            title, line, *fields = part.strip().split("\n")
            pairs = [(name, value.strip()) for name, _, value in (field.partition(":") for field in fields)]
            recorded = Recorded(f"{path.stem} {title}", line, CIMultiDict(pairs))
            if recorded.is_altered:
                sign_anew(recorded)
            found.append(recorded)
    return found


RECORDED = load()


def test_all_recorded_requests_are_there() -> None:
    assert len(RECORDED) == 106
    assert sum(recorded.is_altered for recorded in RECORDED) == 33


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_recorded_signature_holds_and_covers_the_path(recorded: Recorded) -> None:
    signed, secrets = recorded.signed, {SECRET_ID: SECRET_KEY}
    text = recorded.headers["Authorization"]
    assert verify(signed, text, secrets.get, recorded.at_s, CI_REFUSALS) == SECRET_ID
    other = SignedRequest(
        signed.method, signed.host, signed.path + "x", signed.raw_path + "x", signed.params, signed.headers
    )
    with pytest.raises(SignatureDoesNotMatch):
        verify(other, text, secrets.get, recorded.at_s, CI_REFUSALS)


# What each path of the recordings means, by method, kind of host and first segment.
EXPECTED = {
    (r"POST ci /(ai_)?jobs$", "jobs.submit"),
    (r"GET ci /(ai_)?jobs/.", "jobs.describe"),
    (r"GET ci /(ai_)?jobs$", "jobs.list"),
    (r"PUT ci /(ai_)?jobs/.", "jobs.cancel"),
    (r"GET ci /(\w+_?)?queue$", "queues.list"),
    (r"PUT ci /(\w+_?)?queue/.", "queues.update"),
    (r"POST ci /template$", "templates.create"),
    (r"PUT ci /template/.", "templates.update"),
    (r"GET ci /template$", "templates.list"),
    (r"DELETE ci /template/.", "templates.delete"),
    (r"GET ci /(mediabucket|ai_bucket)$", "openings.list"),
    (r"POST ci /workflow$", "workflows.create"),
    (r"GET ci /workflow$", "workflows.list"),
    (r"PUT ci /workflow/[^?]+$", "workflows.update"),
    (r"PUT ci /workflow/.+\?active$", "workflows.activate"),
    (r"PUT ci /workflow/.+\?paused$", "workflows.pause"),
    (r"DELETE ci /workflow/.", "workflows.delete"),
    (r"POST ci /triggerworkflow$", "executions.trigger"),
    (r"GET ci /workflowexecution$", "executions.list"),
    (r"GET ci /workflowexecution/.", "executions.describe"),
    (r"POST ci /inventorytriggerjob$", "batches.create"),
    (r"GET ci /inventorytriggerjob$", "batches.list"),
    (r"GET ci /inventorytriggerjob/.", "batches.describe"),
    (r"PUT ci /inventorytriggerjob/.", "batches.cancel"),
    (r"PUT cos /[^?]+$", "objects.put"),
    (r"GET cos /[^?]+$", "objects.get"),
    (r"HEAD cos /[^?]+$", "objects.head"),
    (r"DELETE cos /[^?]+$", "objects.delete"),
    (r"GET cos /.*\?ci-process", "process.run"),
    (r"POST cos /.+\?uploads$", "uploads.start"),
    (r"PUT cos /.*\?partNumber", "uploads.put_part"),
    (r"POST cos /.*\?uploadId", "uploads.complete"),
    (r"GET cos /\?(.*&)?uploads", "uploads.list"),
    (r"GET cos /\?(?!.*uploads)(.*&)?prefix", "buckets.list"),
    (r"POST cos /\?delete", "buckets.delete_objects"),
}


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
async def test_recorded_path_finds_its_call(recorded: Recorded) -> None:
    signed = recorded.signed
    kind = locate(signed.host, Hosts()).kind
    router = Harness(facts=KnownFacts()).router()
    row = router.find(kind, signed.method, signed.path, Query(signed.params)).row
    try:
        router.handler(row)
        call = row.handler
    except NotImplementedHere:
        call = "501"
    shows_query = kind == "cos" or signed.path.startswith("/workflow/")
    query = "&".join(name for name, _ in signed.params if not name.startswith("q-")) if shows_query else ""
    told = f"{signed.method} {kind} {signed.path}{'?' + query if query else ''}"
    [expected] = {meaning for pattern, meaning in EXPECTED if re.match(pattern, told)}
    assert call == expected


@pytest.mark.parametrize(
    "recorded", [item for item in RECORDED if item.line.startswith("GET ")], ids=lambda recorded: recorded.name
)
async def test_recorded_get_is_served_over_a_socket(recorded: Recorded) -> None:
    head = "\r\n".join([recorded.line, *(f"{name}: {value}" for name, value in recorded.headers.items()), "", ""])
    async with running_edge(now=datetime.fromtimestamp(recorded.at_s, UTC)) as edge:
        reply = await edge.raw(head.encode())
    assert reply.status in (200, 501)
    assert reply["x-ci-request-id"] == reply["x-cos-request-id"]

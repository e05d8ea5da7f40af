"""Callbacks as a receiver in JavaScript sees them: any text is read back (X9-X11), and signatures are verified."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from lxml import etree
from tests.conformance.nodejs.conftest import HERE, NODE
from tests.support.api_caller import ApiCaller

from cloudfinite.domain.job import CallbackFormat, Job, JobInput, JobState
from cloudfinite.operations import operations
from cloudfinite.operations.image_ocr import Box, Detection, OcrParams, TextLine
from cloudfinite.receiver import verify
from cloudfinite.testing import Server
from cloudfinite.wire.shapes import callback_body

pytestmark = [pytest.mark.sdk, pytest.mark.xdist_group("node")]

CALLBACKS = 2_500  # with four texts each
WHEN = datetime(2026, 1, 5, tzinfo=UTC)
FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
PIECES = [
    "\0", "\x08\x0b\x1f", "\x7f\x85\x9f", "\r", "\r\n", "\n", "\t", " ", "\ud800", "\udfff", "\udfff\ud800", "\ufffe",
    "\uffff", "]]>", "<![CDATA[", "</DetectedText><Inject>", "<!--", "-->", "<?pi?>", "&", "&#0;", "&#13;", "&amp;lt;",
    "&nbsp;", "%", '"', "'", "\\", "\\u0041", "\u202e\u200f\u2066", "\u2028\u2029", "\ufeff", "🙂", "中文", "é",
    "e\u0301", "__proto__", "0x10", "1e3", "true", "null",
]  # fmt: skip


def run_node(node_modules: Path, tasks: Iterable[Mapping[str, Any]]) -> list[Any]:
    """One process for all of them."""
    lines = [json.dumps({**task, "body": base64.b64encode(task["body"]).decode()}) for task in tasks]
    done = subprocess.run(
        [NODE, HERE / "callbacks.js"],
        input="\n".join(lines).encode(),
        env={"NODE_PATH": str(node_modules), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- texts ---------------------------------------------------------------------------------------------------------


def fuzzed_text(dice: random.Random) -> str:
    """Hard pieces between characters of all planes; seldom long."""
    length = dice.choice([0, 1, 2, 5, 12, 40, 40, 400])
    ends = (0x300, 0x110000)
    return "".join(
        dice.choice(PIECES) if dice.random() < 0.5 else chr(dice.randrange(dice.choice(ends))) for _ in range(length)
    )


@dataclass(frozen=True)
class Texts:
    """What comes from outside in one callback."""

    key: str
    user_data: str
    message: str
    recognised: str

    def callback(self, form: CallbackFormat) -> bytes:
        line = TextLine(99, self.recognised, Box(1, 1, 0, 0), ())
        operation = operations()["ImageOCR"]
        job = Job(
            id="j1", bucket=Server.bucket, region=Server.region, tag="ImageOCR", queue_id="p1",
            input=JobInput(object_key=self.key), params=operation.params_data(OcrParams()),
            created_at=WHEN, started_at=WHEN, ended_at=WHEN, state=JobState.SUCCESS,
            user_data=self.user_data, message=self.message,
            result=operation.result_data(Detection("0", 0, "", (line,))),
        )  # fmt: skip
        return callback_body(job, operation, form, wrapped=True)[1]

    def changed(self, change: Any) -> Texts:
        return Texts(*(change(text) for text in (self.key, self.user_data, self.message, self.recognised)))


def in_xml(text: str) -> str:
    """The documented form: what XML forbids is U+FFFD, everything else comes back as it was."""
    return FORBIDDEN.sub("\ufffd", text)


def in_json(text: str) -> str:
    """Everything comes back; half a pair that another half follows is one character to every JSON parser."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def texts_of_tree(root: Any) -> Texts:
    paths = ("Input/Object", "Operation/UserData", "Message", "Operation/Detection/TextDetections/DetectedText")
    return Texts(*(root.findtext(f"JobsDetail/{path}") or "" for path in paths))


def texts_of_data(data: Any) -> Texts:
    """Of JSON, where empty texts are absent; of the JavaScript parser's XML, which gives one node without a list."""
    job = _only(data["Response"]["JobsDetail"])
    work = job["Operation"]
    line = _only(work["Detection"]["TextDetections"])
    return Texts(job["Input"]["Object"], work["UserData"], job.get("Message", ""), line.get("DetectedText", ""))


def _only(value: Any) -> Any:
    if isinstance(value, list):
        (value,) = value
    return value


@pytest.fixture(scope="module")
def fuzzed() -> list[Texts]:
    dice = random.Random(4)
    hard = [Texts(*[piece] * 4) for piece in PIECES]
    return hard + [Texts(*(fuzzed_text(dice) for _ in range(4))) for _ in range(CALLBACKS)]


def test_any_text_in_xml_is_read_alike_by_three_parsers(fuzzed: list[Texts], node_modules: Path) -> None:
    bodies = [texts.callback(CallbackFormat.XML) for texts in fuzzed]
    read = run_node(node_modules, ({"task": "XML", "body": body} for body in bodies))
    for texts, body, found in zip(fuzzed, bodies, read, strict=True):
        expected = texts.changed(in_xml)
        assert texts_of_tree(ElementTree.fromstring(body)) == expected  # expat
        assert texts_of_tree(etree.fromstring(body)) == expected  # libxml2
        assert texts_of_data(found) == expected


def test_any_text_in_json_is_read_alike_by_python_and_javascript(fuzzed: list[Texts], node_modules: Path) -> None:
    bodies = [texts.callback(CallbackFormat.JSON) for texts in fuzzed]
    read = run_node(node_modules, ({"task": "JSON", "body": body} for body in bodies))
    for texts, body, found in zip(fuzzed, bodies, read, strict=True):
        expected = texts.changed(in_json)
        assert texts_of_data(json.loads(body)) == expected
        assert texts_of_data(found) == expected


# --- signatures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[ApiCaller]:
    yield ApiCaller(server)


def verdicts(server: Server, inbox: str, node_modules: Path, *secrets: str) -> list[str]:
    """What the official library says of the newest callback, secret by secret."""
    callback = server.callbacks(inbox)[-1]
    task = {"task": "verify", "secrets": secrets, "headers": dict(callback.headers), "body": callback.body}
    return run_node(node_modules, [task])[0]


@pytest.mark.parametrize("form", ["XML", "JSON"])
def test_signature_is_verified_by_the_official_library(
    server: Server, api: ApiCaller, node_modules: Path, form: str
) -> None:
    inbox, secret = f"signed-{form}", (server.data / "webhook.secret").read_text().strip()
    api.post("/target/test", {"url": server.inbox(inbox), "format": form})
    (callback,) = server.wait_for_callbacks(inbox, 1)
    verify(callback.headers, callback.body, [secret])
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert verdicts(server, inbox, node_modules, secret, other) == ["verified", "No matching signature found"]


def test_rotation_with_overlap_fails_no_receiver(server: Server, api: ApiCaller, node_modules: Path) -> None:
    inbox, url = "rotated", server.inbox("rotated")
    old, new = (api.post("/target/secret", {"url": url, "overlap_s": 3600})["secret"] for _ in range(2))
    api.post("/target/test", {"url": url})
    server.wait_for_callbacks(inbox, 1)
    assert verdicts(server, inbox, node_modules, old, new) == ["verified", "verified"]
    newest = api.post("/target/secret", {"url": url, "overlap_s": 0})["secret"]
    api.post("/target/test", {"url": url})
    server.wait_for_callbacks(inbox, 2)
    assert verdicts(server, inbox, node_modules, old, new, newest)[-1] == "verified"
    assert "verified" not in verdicts(server, inbox, node_modules, old, new)

"""A client in a few lines that tells an accepted job from a refused one and from one whose answer never came."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cloudfinite.testing import Server
from cloudfinite.wire.signature import sign

_NODE = re.compile(r"<(\w+)>([^<]*)</\1>")


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as the server tells it."""

    id: str
    state: str
    code: str
    message: str
    started: str


class WireClient:
    """Speaks to wherever the server is now: it may be restarted on another port. Raises OSError without an answer."""

    def __init__(self, server: Server, timeout_s: float = 10.0) -> None:
        self._server = server
        self._timeout_s = timeout_s

    def call(self, method: str, target: str, body: bytes = b"", kind: str = "ci") -> str:
        host = f"{Server.bucket}.{kind}.{Server.region}.myqcloud.com"
        now_s = int(time.time())
        authorization = sign(
            method, target.partition("?")[0], secret_id=Server.secret_id, secret_key=Server.secret_key,
            start_s=now_s - 60, end_s=now_s + 600, headers=[("host", host)],
        )  # fmt: skip
        address = urlsplit(self._server.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=self._timeout_s)
        try:
            connection.request(method, target, body, {"Host": host, "Authorization": authorization})
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as exc:
            raise ConnectionError("the answer broke off") from exc
        finally:
            connection.close()
        if answer.status != 200:
            nodes = dict(_NODE.findall(text))
            raise RefusedError(answer.status, nodes.get("Code", ""), nodes.get("Message", text))
        return text

    def put(self, key: str, data: bytes = b"x") -> None:
        self.call("PUT", f"/{key}", data, kind="cos")

    def submit(
        self, tag: str, *, key: str = "a", file: object = "", ms: int = 0, callback: str = "", level: int = 0
    ) -> str:
        """The id of the accepted job."""
        body = (
            f"<Request><Tag>{tag}</Tag><Input><Object>{key}</Object></Input><Operation><JobLevel>{level}</JobLevel>"
            f"<Params><File>{file}</File><Ms>{ms}</Ms></Params></Operation>"
            + (f"<CallBack>{callback}</CallBack>" if callback else "")
            + "</Request>"
        )
        return _NODE_OF["JobId"].findall(self.call("POST", "/jobs", body.encode()))[0]

    def submit_ocr(self, key: str = "a") -> str:
        """A job of another service, so of another queue."""
        body = (
            f"<Request><Tag>ImageOCR</Tag><Input><Object>{key}</Object></Input>"
            "<Operation><ImageOCR><Type>general</Type></ImageOCR></Operation></Request>"
        )
        return _NODE_OF["JobId"].findall(self.call("POST", "/jobs", body.encode()))[0]

    def jobs(self, ids: Sequence[str]) -> list[Seen]:
        found: list[Seen] = []
        for start in range(0, len(ids), 50):
            found += _seen(self.call("GET", f"/jobs/{','.join(ids[start : start + 50])}"))
        return found

    def job(self, job_id: str) -> Seen:
        (found,) = self.jobs([job_id])
        return found

    def all_jobs(self, tag: str) -> list[Seen]:
        """Through the list, page by page."""
        found: list[Seen] = []
        token = ""
        while True:
            text = self.call("GET", f"/jobs?tag={tag}&size=100&states=All&nextToken={token}")
            found += _seen(text)
            token = next(iter(_NODE_OF["NextToken"].findall(text)), "")
            if not token:
                return found

    def set_queue_state(self, state: str) -> None:
        """Of the file service's queue, which the tests' operations use."""
        text = self.call("GET", "/file_queue")
        queue_id, name = (_NODE_OF[node].findall(text)[0] for node in ("QueueId", "Name"))
        body = (
            f"<Request><Name>{name}</Name><QueueID>{queue_id}</QueueID><State>{state}</State>"
            "<NotifyConfig><State>Off</State></NotifyConfig></Request>"
        )
        self.call("PUT", f"/file_queue/{queue_id}", body.encode())


_NODE_OF = {name: re.compile(f"<{name}>([^<]*)</{name}>") for name in ("JobId", "NextToken", "QueueId", "Name")}


def _seen(text: str) -> list[Seen]:
    found = []
    for part in text.split("<JobsDetail>")[1:]:
        nodes = dict(_NODE.findall(part.partition("</JobsDetail>")[0]))
        found.append(
            Seen(nodes["JobId"], nodes["State"], nodes.get("Code", ""), nodes.get("Message", ""), nodes["StartTime"])
        )
    return found

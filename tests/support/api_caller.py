"""The JSON API as tests call it: a status and a document for each request."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from qcloud_cos import CosConfig, CosS3Client

from cloudfinite.testing import Server

ROOT = "/-/api/v1"

_WAIT_S = 20.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """Calls the API of a running server, with its token unless told otherwise."""

    server: Server

    @property
    def token(self) -> str:
        return (self.server.data / "admin.token").read_text().strip()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        place = urlsplit(self.server.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None, **query: object) -> tuple[int, Any]:
        target = ROOT + path + ("?" + urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        status, _, text = self.request(method, target, data, {"Authorization": f"Bearer {self.token}"})
        return status, json.loads(text)

    def get(self, path: str, **query: object) -> Any:
        """The document; anything but a success fails the test."""
        status, answer = self.call("GET", path, **query)
        assert status == 200, answer
        return answer

    def post(self, path: str, body: Any = None) -> Any:
        status, answer = self.call("POST", path, body if body is not None else {})
        assert status in (200, 201), answer
        return answer

    def refused(self, method: str, path: str, body: Any = None, **query: object) -> tuple[int, str, str]:
        """(status, code, message) of a call that must not succeed."""
        status, answer = self.call(method, path, body, **query)
        assert status >= 400, answer
        return status, answer["error"]["code"], answer["error"]["message"]

    # --- jobs -------------------------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes = b"bytes", pair: tuple[str, str] | None = None) -> str:
        """Store an object, signed with the server's key pair or another one."""
        server = self.server
        secret_id, secret_key = pair or (server.secret_id, server.secret_key)
        config = CosConfig(
            Region=server.region,
            SecretId=secret_id,
            SecretKey=secret_key,
            Scheme="http",
            Proxies={"http": server.url},
        )
        CosS3Client(config).put_object(Bucket=server.bucket, Key=key, Body=body)
        return key

    def submit(self, *keys: str, **fields: Any) -> list[str]:
        """Ids of the new jobs."""
        answer = self.post("/jobs", {"bucket": self.server.bucket, "objects": list(keys), **fields})
        return [job["id"] for job in answer["items"]]

    def wait_for(self, job_id: str, *states: str) -> Any:
        """The job, once it is in one of the states."""
        ends_at = time.monotonic() + _WAIT_S
        while (job := self.get(f"/jobs/{quote(job_id)}"))["state"] not in states:
            assert time.monotonic() < ends_at, job
            time.sleep(_POLL_S)
        return job

    def set_faults(self, inbox: str, *faults: dict[str, Any]) -> None:
        """What the next POSTs to an inbox meet."""
        headers = {"Authorization": f"Bearer {self.token}"}
        status, _, text = self.request("PUT", f"/-/inbox/{inbox}/faults", json.dumps(faults).encode(), headers)
        assert status == 200, text

    def wait_sent(self, delivery_id: str, attempts: int = 1) -> Any:
        """The delivery, once it waits no more after so many attempts."""
        ends_at = time.monotonic() + _WAIT_S
        while True:
            delivery = self.get(f"/deliveries/{delivery_id}")
            if delivery["state"] != "waiting" and delivery["attempts"] >= attempts:
                return delivery
            assert time.monotonic() < ends_at, delivery
            time.sleep(_POLL_S)

    def wait_for_stats(self, tag: str) -> list[Any]:
        """The counters of a tag, which are written some seconds late."""
        ends_at = time.monotonic() + _WAIT_S
        while not (rows := [row for row in self.get("/stats")["items"] if row["tag"] == tag and row["succeeded"]]):
            assert time.monotonic() < ends_at
            time.sleep(_POLL_S)
        return rows

    def queue(self, service: str) -> Any:
        return next(one for one in self.get("/queues")["items"] if one["service"] == service)

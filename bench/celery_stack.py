"""What a team would build instead: Starlette takes the job, Celery runs it over Redis, aiohttp sends the callback.

Started by `bench/against_celery.py`. It does what our path does: it checks the same signature, reads the same XML,
keeps the result where it can be asked for, and signs the callback as Standard Webhooks have it. Redis and Celery keep
their default durability: a job lives in memory until Redis next saves, and is acknowledged before it runs.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
import uuid
from datetime import UTC, datetime

import aiohttp
from celery import Celery
from lxml import etree
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloudfinite.testing import Server
from cloudfinite.wire.signature import CI_REFUSALS, SignedRequest, verify

app = Celery("stack", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
webhook = Webhook("whsec_" + base64.b64encode(b"a secret of 24 bytes, so").decode())
_loop: asyncio.AbstractEventLoop | None = None
_session: aiohttp.ClientSession | None = None


class _SignedHeaders:
    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def getall(self, key: str, default: list[str], /) -> list[str]:
        return self._headers.getlist(key) or default


async def submit(request: Request) -> Response:
    signed = SignedRequest(
        request.method,
        request.headers["host"],
        request.url.path,
        request.url.path,
        request.query_params.multi_items(),
        _SignedHeaders(request.headers),
    )
    verify(
        signed,
        request.headers["authorization"],
        {Server.secret_id: Server.secret_key}.get,
        int(time.time()),
        CI_REFUSALS,
    )
    root = etree.fromstring(await request.body())
    job_id = uuid.uuid4().hex
    sleep_ms = int(root.findtext("Operation/BenchNoOp/SleepMs") or 0)
    run.delay(job_id, root.findtext("Input/Object"), sleep_ms, root.findtext("CallBack"))
    answer = f"<Response><JobsDetail><JobId>{job_id}</JobId><State>Submitted</State></JobsDetail></Response>"
    return Response(answer, media_type="application/xml")


@app.task
def run(job_id: str, key: str, sleep_ms: int, callback: str) -> str:
    started_ns = time.time_ns()
    time.sleep(sleep_ms / 1000)  # the work, as long as the job says
    body = (
        "<Response><EventName>TaskFinish</EventName><JobsDetail><Code>Success</Code><Input>"
        f"<Object>{key}</Object></Input><JobId>{job_id}</JobId><Operation><BenchResult><StartedNs>{started_ns}"
        "</StartedNs></BenchResult></Operation><State>Success</State></JobsDetail></Response>"
    ).encode()
    at = datetime.now(UTC)
    headers = {
        "Content-Type": "application/xml",
        "webhook-id": job_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": webhook.sign(job_id, at, body.decode()),
    }
    _event_loop().run_until_complete(_post(callback, headers, body))
    return body.decode()


def _event_loop() -> asyncio.AbstractEventLoop:
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
    return _loop


async def _post(url: str, headers: dict[str, str], body: bytes) -> None:
    global _session
    if _session is None:
        _session = aiohttp.ClientSession()
    async with _session.post(url, data=body, headers=headers) as answer:
        answer.raise_for_status()


web = Starlette(routes=[Route("/jobs", submit, methods=["POST"])])

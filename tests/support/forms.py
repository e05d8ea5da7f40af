"""Uploads by a form, as a browser or a Mini Program sends them."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

from tests.edge_harness import BUCKET, COS_HOST, SECRET_ID, SECRET_KEY, Reply
from tests.object_server import ObjectServer

from cloudfinite.wire.post_policy import sign_policy


def multipart(fields: dict[str, str], data: bytes | None, *, filename: str = "cat.png", end: str = "--") -> bytes:
    body = b"".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    if data is not None:
        head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        body += head.encode() + b"Content-Type: image/gif\r\n\r\n" + data + b"\r\n"
    return body + f"--B{end}\r\n".encode()


def signed(
    server: ObjectServer,
    fields: dict[str, str],
    *conditions: Any,
    pair: tuple[str, str] = (SECRET_ID, SECRET_KEY),
) -> dict[str, str]:
    now = server.clock()
    period = f"{int(now.timestamp()) - 1};{int(now.timestamp()) + 60}"
    expiration = (now + timedelta(minutes=1)).isoformat()
    policy = json.dumps({"expiration": expiration, "conditions": [{"bucket": BUCKET}, *conditions]}).encode()
    return {
        **fields, "policy": base64.b64encode(policy).decode(), "q-sign-algorithm": "sha1", "q-ak": pair[0],
        "q-key-time": period, "q-signature": sign_policy(policy, pair[1], period),
    }  # fmt: skip


async def post(server: ObjectServer, body: bytes, **headers: str) -> Reply:
    sent = {"Content-Type": "multipart/form-data; boundary=B", **headers}
    return await server.call("POST", "/", host=COS_HOST, body=body, headers=sent, is_signed=False)

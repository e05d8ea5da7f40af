"""The forms of the wire's identifiers.

Wire: inferred from all samples of the vendor's documentation: a job id is one letter and the 32 hex digits of a UUID
version 1 whose time is the job's creation; queues, templates and workflows carry a UUID version 4.
"""

from __future__ import annotations

import secrets
import time
import uuid
from base64 import b64encode
from datetime import datetime

_UUID_EPOCH_100NS = 0x01B21DD213814000  # 1582-10-15, in 100-ns ticks before 1970-01-01
_MICROSECOND = 10


def _uuid1_hex(at: datetime) -> str:
    """A UUID version 1 of that instant; its 62 other bits are random, not this machine's address."""
    ticks = round(at.timestamp() * 1_000_000) * _MICROSECOND + secrets.randbelow(_MICROSECOND) + _UUID_EPOCH_100NS
    random = secrets.randbits(62)
    return uuid.UUID(
        fields=(
            ticks & 0xFFFFFFFF,
            (ticks >> 32) & 0xFFFF,
            (ticks >> 48) & 0x0FFF | 0x1000,
            (random >> 56) & 0x3F | 0x80,
            (random >> 48) & 0xFF,
            random & 0xFFFFFFFFFFFF | 0x010000000000,  # the multicast bit marks a node that is no address
        )
    ).hex


def new_job_id(letter: str, at: datetime) -> str:
    """`letter` tells the service: a AI, c picture, d document, f file, j media, s speech."""
    return letter + _uuid1_hex(at)


def new_queue_id() -> str:
    return "p" + uuid.uuid4().hex


def new_template_id() -> str:
    return "t1" + uuid.uuid4().hex


def new_workflow_id() -> str:
    return "w" + uuid.uuid4().hex


def new_run_id(at: datetime) -> str:
    """Of a workflow's execution."""
    return "i" + _uuid1_hex(at)


def new_batch_id(at: datetime) -> str:
    return "b" + _uuid1_hex(at)


def new_delivery_id() -> str:
    """The `webhook-id` of a notification, the same in each of its attempts.

    It begins with the time: the database's indexes grow at their end, where random ids would each touch another page.
    """
    return f"msg_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def new_request_id(at: datetime) -> str:
    """Base64 of `<hex unix seconds>_<hex address>_<hex>_<hex>`, as the vendor's samples decode."""
    text = f"{int(at.timestamp()):x}_7f000001_{secrets.randbits(16):x}_{secrets.randbits(32):x}"
    return b64encode(text.encode()).decode()

"""The frames between a pool and its child processes: a length of four bytes, then JSON in UTF-8.

Never pickle: what a child sends was made from hostile input, and a child may have been taken over by it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

HEADER = struct.Struct("!I")
MAX_FRAME_BYTES = 32 * 1024 * 1024
"""A page of 1,000 lines with all their characters has about 4 MiB."""


class FrameError(Exception):
    """The other side sent what is no frame."""


def pack_frame(data: Mapping[str, Any]) -> bytes:
    """Raises FrameError when the frame would be larger than allowed."""
    body = json.dumps(data, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"the answer has {len(body)} bytes; at most {MAX_FRAME_BYTES} are allowed")
    return HEADER.pack(len(body)) + body


def body_size(header: bytes | bytearray | memoryview) -> int:
    """Raises FrameError beyond the limit, before anything of that size is held."""
    (size,) = HEADER.unpack_from(header)
    if size > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {size} bytes was announced; at most {MAX_FRAME_BYTES} are allowed")
    return int(size)


def read_body(body: bytes | bytearray) -> Mapping[str, Any]:
    """Raises FrameError unless it is a JSON object."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise FrameError(f"the frame is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise FrameError("the frame is not a JSON object")
    return data

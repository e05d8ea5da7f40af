"""Frames between pool and child: bounded, and JSON objects only."""

from __future__ import annotations

import pytest

from cloudfinite.adapters.frames import HEADER, MAX_FRAME_BYTES, FrameError, body_size, pack_frame, read_body


def test_frame_is_read_back() -> None:
    frame = pack_frame({"text": "漢\ud800", "n": [1, None]})
    assert body_size(frame) == len(frame) - HEADER.size
    assert read_body(frame[HEADER.size :]) == {"text": "漢\ud800", "n": [1, None]}


def test_too_large_frame_is_refused_by_both_sides() -> None:
    with pytest.raises(FrameError, match="at most 33554432"):
        pack_frame({"text": "x" * MAX_FRAME_BYTES})
    with pytest.raises(FrameError, match="4294967295 bytes was announced"):
        body_size(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("body", [b"", b"\x80\x04.", b"[1]", b"[" * 100_000])
def test_anything_but_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        read_body(body)

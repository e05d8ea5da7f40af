from __future__ import annotations

from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.domain.crc64 import combine_crc64


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_combined_crc_is_the_crc_of_the_whole(parts: list[bytes]) -> None:
    combined = 0
    for part in parts:
        combined = combine_crc64(combined, crc64.xz(part), len(part))
    assert combined == crc64.xz(b"".join(parts))


def test_known_check_value() -> None:
    combined = combine_crc64(crc64.xz(b"1234"), crc64.xz(b"56789"), 5)
    assert combined == 0x995DC9BBDF1939FA

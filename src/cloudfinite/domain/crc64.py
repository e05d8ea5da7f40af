"""The CRC-64 of two byte strings put together, from the CRCs of both: parts need not be read again.

A CRC is a polynomial over GF(2); bytes that follow multiply it by x to the power of their bits. The constant is the
reflected polynomial of CRC-64/XZ, whose initial and final inversions cancel out here.
"""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0xC96C5795D7870F42
_ONE = 1 << 63  # x to the power of 0: reflected, the lowest power is the highest bit


def combine_crc64(first: int, second: int, second_bytes: int) -> int:
    """The CRC of the first bytes followed by the second, of which there are `second_bytes`."""
    return _multiply(first, _shift(second_bytes)) ^ second


@cache
def _power(exponent: int) -> int:
    """X to the power of 2 to the power of `exponent`."""
    if exponent == 0:
        return _ONE >> 1
    half = _power(exponent - 1)
    return _multiply(half, half)


def _shift(size_bytes: int) -> int:
    """X to the power of the bits in `size_bytes`."""
    product, exponent = _ONE, 3
    while size_bytes:
        if size_bytes & 1:
            product = _multiply(product, _power(exponent))
        size_bytes >>= 1
        exponent += 1
    return product


def _multiply(left: int, right: int) -> int:
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & (2 * _ONE - 1)
        right = (right >> 1) ^ (_POLYNOMIAL if right & 1 else 0)
    return product

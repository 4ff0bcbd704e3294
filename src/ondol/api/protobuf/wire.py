"""Protobuf's wire form: varints, and fields told apart by number and wire type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field; `ValueError` if the bytes are no message."""
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        wire = tag & 7
        if wire == BYTES:
            size, at = varint(data, at)
            if at + size > end:
                raise ValueError("unexpected EOF")
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire == VARINT:
            value, at = varint(data, at)
            yield tag >> 3, value
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            if at + size > end:
                raise ValueError("unexpected EOF")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"illegal wire type {wire}")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("unexpected EOF" if at >= len(data) else "integer overflow")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7


def signed(value: int) -> int:
    """A varint as the signed number it stands for."""
    return value - (1 << 64) if value & _SIGN else value


def put_varint(value: int) -> bytes:
    """The varint of a number; negative ones in two's complement of 64 bits."""
    value &= _MASK
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_bytes(number: int, data: bytes) -> bytes:
    return put_varint(number << 3 | BYTES) + put_varint(len(data)) + data


def put_number(number: int, value: int) -> bytes:
    return put_varint(number << 3 | VARINT) + put_varint(value)

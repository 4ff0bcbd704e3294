"""Protobuf's wire form: varints, and fields told apart by number and wire type.

Used by whoever reads or writes a few messages without their generated classes. Every mistake in the
bytes is a `ValueError`; reading takes time in proportion to the bytes, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
GROUP: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5

_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_TAG_MAX: Final = (1 << 32) - 1
_GROUPS_MAX: Final = 100
"""How deep groups may lie in one another: what protobuf's own readers allow of messages."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field; `ValueError` if the bytes are no message."""
    return ((tag >> 3, value) for tag, value in tagged(data))


def tagged(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Tag (`number << 3 | wire type`) and value of every field; `ValueError` if the bytes are no message.

    Groups, which nothing here has a use for, are passed over.
    """
    at, end = 0, len(data)
    while at < end:
        tag, value, at = field(data, at)
        if tag & 7 != GROUP:
            yield tag, value


def field(data: bytes, at: int) -> tuple[int, int | bytes, int]:
    """Tag and value of the field at a place, and the place after it.

    The value of a varint is its unsigned number, of everything else its content; a group's is empty.
    """
    try:
        # Nearly all tags and lengths are below 128: one byte, read in place.
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = varint(data, at - 1)
        if tag < 8 or tag > _TAG_MAX:
            raise ValueError(f"illegal tag {tag}")
        wire = tag & 7
        if wire == BYTES:
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = varint(data, at - 1)
            begin = at
            at += size
            if at > len(data):
                raise ValueError("unexpected EOF")
            return tag, data[begin:at], at
        if wire == VARINT:
            number = data[at]
            return (tag, number, at + 1) if number < 0x80 else (tag, *varint(data, at))
    except IndexError:
        raise ValueError("unexpected EOF") from None
    if wire == GROUP:
        return tag, b"", _past_group(data, at, tag >> 3)
    begin, at = at, _past_fixed(data, at, wire)
    return tag, data[begin:at], at


def _past_fixed(data: bytes, at: int, wire: int) -> int:
    """The place after a number of fixed size."""
    if wire not in {FIXED64, FIXED32}:
        raise ValueError(f"illegal wire type {wire}")
    at += 8 if wire == FIXED64 else 4
    if at > len(data):
        raise ValueError("unexpected EOF")
    return at


def _past_group(data: bytes, at: int, number: int) -> int:
    """The place after a group whose opening tag was read, and after all groups in it."""
    open_numbers = [number]
    while open_numbers:
        tag, at = varint(data, at)
        wire = tag & 7
        if tag < 8 or tag > _TAG_MAX:
            raise ValueError(f"illegal tag {tag}")
        if wire == GROUP:
            open_numbers.append(tag >> 3)
            if len(open_numbers) > _GROUPS_MAX:
                raise ValueError("groups lie too deep in one another")
        elif wire == GROUP_END:
            if open_numbers.pop() != tag >> 3:
                raise ValueError("unexpected end of group")
        elif wire == BYTES:
            size, at = varint(data, at)
            at += size
            if at > len(data):
                raise ValueError("unexpected EOF")
        elif wire == VARINT:
            _, at = varint(data, at)
        else:
            at = _past_fixed(data, at, wire)
    return at


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


def put_fixed64(number: int, value: int) -> bytes:
    return put_varint(number << 3 | FIXED64) + (value & _MASK).to_bytes(8, "little")

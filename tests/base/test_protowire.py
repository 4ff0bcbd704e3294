"""Protobuf's wire form: what is written is read, and groups are passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.base import protowire

_NUMBERS = st.integers(1, 2**29 - 1)


@given(st.lists(st.tuples(_NUMBERS, st.binary(max_size=300) | st.integers(0, 2**64 - 1)), max_size=8))
def test_fields_come_back_as_they_were_put(parts: list[tuple[int, bytes | int]]) -> None:
    """Numbers and contents of any size, in their order."""
    data = b"".join(
        protowire.put_bytes(number, value)
        if isinstance(value, bytes)
        else protowire.put_number(number, value)
        for number, value in parts
    )
    assert list(protowire.fields(data)) == parts


@given(st.binary(max_size=100))
def test_any_bytes_are_fields_or_a_value_error(data: bytes) -> None:
    """There is no other error."""
    try:
        contents = [value for _, value in protowire.fields(data)]
    except ValueError:
        return
    assert sum(len(value) for value in contents if isinstance(value, bytes)) <= len(data)


def test_groups_are_passed_over() -> None:
    """Whatever fields are in them; also where a reader would know their number."""
    inside = b"\x08\x01" + b"\x12\x01a" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x2b\x2c"
    assert list(protowire.fields(b"\x0b" + inside + b"\x0c" + b"\x08\x05")) == [(1, 5)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0b\x14", "unexpected end of group"),
        (b"\x0b\x12\x05", "unexpected EOF"),
        (b"\x0b\x0e", "illegal wire type"),
        (b"\x0b" * 101, "too deep"),
        (b"\x0c", "illegal wire type"),
        (b"\x00\x00", "illegal tag"),
        (b"\xff\xff\xff\xff\x7f\x00", "illegal tag"),
        (b"\x08", "unexpected EOF"),
        (b"\x08" + b"\xff" * 11, "integer overflow"),
        (b"\x0d\x00", "unexpected EOF"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, message: str) -> None:
    """With words for it."""
    with pytest.raises(ValueError, match=message):
        list(protowire.fields(data))

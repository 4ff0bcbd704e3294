"""The values whose JSON form protobuf spells in its own way: times, quantities, raw documents, ...

Each word of the table has a reader (wire value → JSON value, None for nothing) and a writer (JSON
value → the bytes of the field's content).
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from ondol.base import durations, go_json, protowire, timestamps

Reader: TypeAlias = Callable[[Any], Any]
Writer: TypeAlias = Callable[[Any], bytes]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GO_ZERO: Final = datetime(1, 1, 1, tzinfo=UTC)
"""A time nobody set, which JSON does not show."""


def _content(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("wrong wire type")  # noqa: TRY004  # malformed input, as every other here
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("wrong wire type")  # noqa: TRY004  # malformed input, as every other here
    return protowire.signed(value)


def _text(value: Any) -> str:
    return _content(value).decode()


def _double(value: Any) -> float | int:
    (number,) = struct.unpack("<d", _content(value))
    return int(number) if float(number).is_integer() and abs(number) < 1 << 53 else float(number)


def _moment(value: Any) -> datetime | None:
    data = _content(value)
    if not data:
        return None
    parts = dict(protowire.fields(data))
    seconds, nanos = _number(parts.get(1, 0)), _number(parts.get(2, 0))
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise ValueError("a time outside of the years 1 to 9999") from None
    return None if moment == _GO_ZERO else moment


def _time(value: Any) -> str | None:
    moment = _moment(value)
    return None if moment is None else timestamps.spelled(moment)


def _micro_time(value: Any) -> str | None:
    moment = _moment(value)
    return None if moment is None else timestamps.spelled_micro(moment)


def _duration(value: Any) -> str:
    nanoseconds = _number(dict(protowire.fields(_content(value))).get(1, 0))
    return f"{nanoseconds / 1e9:g}s"


def _quantity(value: Any) -> str:
    text = dict(protowire.fields(_content(value))).get(1, b"")
    return _text(text) or "0"


def _int_or_string(value: Any) -> int | str:
    parts = dict(protowire.fields(_content(value)))
    if parts.get(1, 0) == 1:
        return _text(parts.get(3, b""))
    number = _number(parts.get(2, 0))
    return number - (1 << 32) if number >= 1 << 31 else number


def _document(value: Any) -> Any:
    raw = _content(dict(protowire.fields(_content(value))).get(1, b""))
    return json.loads(raw) if raw else None


READERS: Final[dict[str, Reader]] = {
    "string": _text,
    "bytes": lambda value: base64.b64encode(_content(value)).decode(),
    "int32": _number,
    "int64": _number,
    "bool": lambda value: bool(_number(value)),
    "double": _double,
    "time": _time,
    "micro-time": _micro_time,
    "duration": _duration,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "fields": _document,
    "json": _document,
}

NUMBERS: Final = ("int32", "int64", "bool")
"""Words written as varints; `double` is fixed, all others have a length."""


def _put_moment(value: Any) -> bytes:
    if not value:
        return b""
    passed = datetime.fromisoformat(value) - _EPOCH
    seconds = passed.days * 86400 + passed.seconds
    return protowire.put_number(1, seconds) + protowire.put_number(2, passed.microseconds * 1000)


def _put_int_or_string(value: Any) -> bytes:
    text = value if isinstance(value, str) else ""
    number = 0 if isinstance(value, str) else value or 0
    kind = int(isinstance(value, str))
    return (
        protowire.put_number(1, kind)
        + protowire.put_number(2, number)
        + protowire.put_bytes(3, text.encode())
    )


def _put_document(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return protowire.put_bytes(1, go_json.escaped(text).encode())  # clients of Go compare these bytes


WRITERS: Final[dict[str, Writer]] = {
    "string": lambda value: (value or "").encode(),
    "bytes": lambda value: base64.b64decode(value or ""),
    "int32": lambda value: protowire.put_varint(value or 0),
    "int64": lambda value: protowire.put_varint(value or 0),
    "bool": lambda value: protowire.put_varint(int(value or False)),
    "double": lambda value: struct.pack("<d", value or 0),
    "time": _put_moment,
    "micro-time": _put_moment,
    "duration": lambda value: protowire.put_number(1, int(durations.nanoseconds(value or "0"))),
    "quantity": lambda value: protowire.put_bytes(1, str(value if value is not None else "0").encode()),
    "int-or-string": _put_int_or_string,
    "fields": _put_document,
    "json": _put_document,
}

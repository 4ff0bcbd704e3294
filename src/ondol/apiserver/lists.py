"""How a list is written: its head, its items some at a time, and its end, in each format.

Each item is put down as it is encoded alone, so a list of any length is written in turns with other work
and is never in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from ondol.api.objects import Object
from ondol.apiserver import documents, yaml_text
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import WHOLE_BYTES_MAX, Answer, Emit, Reply, Stream
from ondol.apiserver.turns import SLICE_BYTES, parts
from ondol.store import Record

Encoded = Callable[[Sequence[Record]], list[bytes]]
"""Records, each as the JSON text of its item."""

_YAML_SLICE_BYTES: Final = SLICE_BYTES // 16
"""YAML is written that much more slowly than JSON is read."""


class Format(Protocol):
    """One way to write a list; `head` is the document without its items, which stand under `field`."""

    content_type: bytes
    slice_bytes: int
    between: bytes
    end: bytes

    def head(self, document: Object, field: str) -> bytes: ...

    def items(self, values: list[bytes]) -> bytes: ...

    def empty(self, document: Object, field: str) -> bytes: ...


class Json:
    """As machines read it."""

    content_type = b"application/json"
    slice_bytes = SLICE_BYTES
    between = b","
    end = b"]}\n"

    def head(self, document: Object, field: str) -> bytes:
        return b'%b,"%b":[' % (documents.dump(document)[:-1], field.encode())

    def items(self, values: list[bytes]) -> bytes:
        return b",".join(values)

    def empty(self, document: Object, field: str) -> bytes:
        return documents.dump({**document, field: []}) + b"\n"


class Pretty:
    """JSON as people read it."""

    content_type = b"application/json"
    slice_bytes = SLICE_BYTES
    between = b","
    end = b"\n  ]\n}\n"

    def head(self, document: Object, field: str) -> bytes:
        return b'%b,\n  "%b": [' % (_indented(documents.dump(document))[:-2], field.encode())

    def items(self, values: list[bytes]) -> bytes:
        # No text of JSON holds a line's end as such, so all that are there are between its parts.
        return b",".join(b"\n    " + _indented(value).replace(b"\n", b"\n    ") for value in values)

    def empty(self, document: Object, field: str) -> bytes:
        return _indented(documents.dump({**document, field: []})) + b"\n"


class Yaml:
    """YAML, whose sequences need no more indentation than what they stand in."""

    content_type = b"application/yaml"
    slice_bytes = _YAML_SLICE_BYTES
    between = b""
    end = b""

    def head(self, document: Object, field: str) -> bytes:
        return yaml_text.dump(document) + b"%b:\n" % field.encode()

    def items(self, values: list[bytes]) -> bytes:
        return yaml_text.dump([msgspec.json.decode(value) for value in values])

    def empty(self, document: Object, field: str) -> bytes:
        return yaml_text.dump({**document, field: []})


def _indented(value: bytes) -> bytes:
    return msgspec.json.format(value, indent=2)


def _size_bytes(records: Sequence[Record]) -> int:
    """How large records are, or at least: no object is smaller than a hundred bytes."""
    if len(records) > WHOLE_BYTES_MAX // 100:
        return WHOLE_BYTES_MAX + 1
    return sum([len(record.value) for record in records])


class Writing:
    """One list: the document it is with an empty `field`, and how its records become what stands there."""

    def __init__(self, written_as: Format, document: Object, field: str, encoded: Encoded) -> None:
        self._format = written_as
        self._document = {name: value for name, value in document.items() if name != field}
        self._field = field
        self._encoded = encoded

    def answer(self, core: Core, user: str, records: Sequence[Record]) -> Answer:
        """A short list whole, a long one piece by piece."""
        if not records:
            return Reply(
                self._format.empty(self._document, self._field), content_type=self._format.content_type
            )
        if _size_bytes(records) <= min(WHOLE_BYTES_MAX, self._format.slice_bytes * 8):
            written = b"%b%b%b" % (self._head(), self._items(records), self._format.end)
            return Reply(written, content_type=self._format.content_type)
        return Stream(lambda emit: self._write(core, user, records, emit), self._format.content_type)

    async def _write(self, core: Core, user: str, records: Sequence[Record], emit: Emit) -> None:
        before = self._head()
        for part in parts(records, self._format.slice_bytes):
            await emit(before + self._items(part))
            before = self._format.between
            await core.turns.next(user)
        await emit(self._format.end)

    def _head(self) -> bytes:
        return self._format.head(self._document, self._field)

    def _items(self, records: Sequence[Record]) -> bytes:
        return self._format.items(self._encoded(records))

"""Frames from bytes and to bytes, within bounds: who sends them may be hostile. Pure.

Source: the SPDY draft 3.1, sections 2.2 and 2.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ondol.apiserver.spdy.dictionary import DICTIONARY

SYN_STREAM: Final = 1
SYN_REPLY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
HEADERS: Final = 8
FIN: Final = 1
_VERSION: Final = 3
_HEAD: Final = struct.Struct(">II")
_NUMBER: Final = struct.Struct(">I")
_CONTROL_BYTES_MAX: Final = 16 * 1024
_HEADERS_BYTES_MAX: Final = 16 * 1024
_HEADERS_MAX: Final = 64
_STREAM: Final = 0x7FFFFFFF


class ProtocolError(Exception):
    """What the peer sends is not SPDY, or beyond a bound: the connection ends."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control frame; `stream` is 0 where it is about none."""

    kind: int
    flags: int
    body: bytes

    @property
    def stream(self) -> int:
        if len(self.body) < _NUMBER.size:
            raise ProtocolError("a control frame is too short")
        return int(_NUMBER.unpack_from(self.body)[0]) & _STREAM


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a data frame; `is_last` ends the stream's direction."""

    stream: int
    data: bytes
    is_last: bool


Frame = Control | Data


class Reader:
    """Frames out of bytes in whatever pieces they come; data is handed on before its frame is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data_left = 0
        self._stream = 0
        self._is_last = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while True:
            if self._data_left:
                if not self._buffer:
                    return
                yield self._piece()
            elif len(self._buffer) < _HEAD.size:
                return
            else:
                first, second = _HEAD.unpack_from(self._buffer)
                flags, length = second >> 24, second & 0xFFFFFF
                if not first >> 31:
                    yield from self._begin_data(first, flags, length)
                elif (frame := self._control(first, flags, length)) is not None:
                    yield frame
                else:
                    return

    def _begin_data(self, stream: int, flags: int, length: int) -> Iterator[Frame]:
        del self._buffer[: _HEAD.size]
        self._stream, self._data_left, self._is_last = stream, length, bool(flags & FIN)
        if not length:
            yield Data(stream, b"", self._is_last)

    def _piece(self) -> Data:
        piece = bytes(self._buffer[: self._data_left])
        del self._buffer[: self._data_left]
        self._data_left -= len(piece)
        return Data(self._stream, piece, self._is_last and not self._data_left)

    def _control(self, first: int, flags: int, length: int) -> Control | None:
        if first >> 16 & 0x7FFF != _VERSION:
            raise ProtocolError("the version is not 3")
        if length > _CONTROL_BYTES_MAX:
            raise ProtocolError("a control frame is too long")
        if len(self._buffer) < _HEAD.size + length:
            return None
        body = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
        del self._buffer[: _HEAD.size + length]
        return Control(first & 0xFFFF, flags, body)


class Headers:
    """Blocks of headers, whose compression goes on from one to the next."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def read(self, block: bytes) -> dict[str, str]:
        """The headers by name; of several values the first."""
        try:
            plain = self._inflate.decompress(block, _HEADERS_BYTES_MAX + 1)
        except zlib.error as error:
            raise ProtocolError("headers are not compressed as they should be") from error
        if len(plain) > _HEADERS_BYTES_MAX or self._inflate.unconsumed_tail:
            raise ProtocolError("headers are too long")
        try:
            return dict(_pairs(plain))
        except (struct.error, UnicodeDecodeError) as error:
            raise ProtocolError("headers are cut short") from error

    def written(self, headers: Mapping[str, str]) -> bytes:
        parts = [_NUMBER.pack(len(headers))]
        for text in (text for pair in headers.items() for text in pair):
            parts += [_NUMBER.pack(len(text)), text.encode()]
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _pairs(plain: bytes) -> Iterator[tuple[str, str]]:
    (count,) = _NUMBER.unpack_from(plain)
    if count > _HEADERS_MAX:
        raise ProtocolError("there are too many headers")
    at = _NUMBER.size
    for _ in range(count):
        name, at = _text(plain, at)
        value, at = _text(plain, at)
        yield name.lower(), value.partition("\0")[0]


def _text(plain: bytes, at: int) -> tuple[str, int]:
    (length,) = _NUMBER.unpack_from(plain, at)
    at += _NUMBER.size
    if at + length > len(plain):
        raise ProtocolError("headers are cut short")
    return plain[at : at + length].decode(), at + length


def control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return _HEAD.pack(1 << 31 | _VERSION << 16 | kind, flags << 24 | len(body)) + body


def data(stream: int, payload: bytes, *, is_last: bool = False) -> bytes:
    return _HEAD.pack(stream, (FIN if is_last else 0) << 24 | len(payload)) + payload


def numbers(*values: int) -> bytes:
    return b"".join(_NUMBER.pack(value) for value in values)

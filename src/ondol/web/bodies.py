"""Bodies of requests, never larger in memory than a limit, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final

from ondol.base import errors
from ondol.web.application import Request

_PIECE_BYTES_MAX: Final = 1 << 20

Grow = Callable[[int], None]
"""Is told before so many bytes more are kept, and raises what the request is refused with."""


async def read(
    request: Request, bytes_max: int, *, noun: str = "a body", grow: Grow = lambda _size_bytes: None
) -> bytes:
    """The whole body, without its gzip; `TooLarge` as soon as it is seen to have more than `bytes_max` bytes.

    `noun` is what the message calls it. `grow` is asked for room before each piece is kept.
    """
    decoder = _decoder(request.headers.get("content-encoding", "identity"), bytes_max + 1)
    body = bytearray()
    async for chunk in request.stream():
        for piece in decoder.pieces(chunk):
            if len(body) + len(piece) > bytes_max:
                raise errors.TooLarge(f"{noun} may have at most {bytes_max} bytes")
            grow(len(piece))
            body += piece
    decoder.end()
    return bytes(body)


def _decoder(encoding: str, piece_bytes_max: int) -> _Identity | _Gzip:
    if encoding == "identity":
        return _Identity()
    if encoding == "gzip":
        return _Gzip(piece_bytes_max)
    raise errors.UnsupportedMediaType(f"content-encoding {encoding!r} is not understood, gzip is")


class _Identity:
    """A body that is sent as it is."""

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        if chunk:
            yield chunk

    def end(self) -> None:
        """Nothing can be missing."""


class _Gzip:
    """A body that is sent as gzip: one member or several, whose contents follow each other (RFC 1952).

    It is decoded as it arrives, in pieces of at most `piece_bytes_max` bytes: a small body that would
    become huge is refused before it does.
    """

    def __init__(self, piece_bytes_max: int) -> None:
        self._piece_bytes_max = min(piece_bytes_max, _PIECE_BYTES_MAX)
        self._member = _member()
        self._is_inside = False
        """Whether a member has begun that has not ended."""
        self._is_empty = True

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            self._is_inside, self._is_empty = True, False
            try:
                piece = self._member.decompress(chunk, self._piece_bytes_max)
            except zlib.error as error:
                raise errors.BadRequest(f"the body is not gzip: {error}") from error
            chunk = self._member.unconsumed_tail
            if self._member.eof:
                chunk = self._member.unused_data
                self._member, self._is_inside = _member(), False
            if piece:
                yield piece

    def end(self) -> None:
        if self._is_inside or self._is_empty:
            raise errors.BadRequest("the body is not gzip: it is cut short")


def _member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

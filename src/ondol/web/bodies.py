"""Bodies of requests, never larger in memory than a limit, compressed or not."""

from __future__ import annotations

import zlib

from ondol.base import errors
from ondol.web.application import Request


async def read(request: Request, bytes_max: int, *, noun: str = "a body") -> bytes:
    """The whole body, without its gzip; `TooLarge` as soon as it is seen to have more than `bytes_max` bytes.

    `noun` is what the message calls it.
    """
    limit = _Limit(bytes_max, noun)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        limit.check(len(body))
    return _decoded(bytes(body), request.headers.get("content-encoding", "identity"), limit)


class _Limit:
    """How many bytes a body may have."""

    def __init__(self, bytes_max: int, noun: str) -> None:
        self.bytes_max = bytes_max
        self._noun = noun

    def check(self, size_bytes: int) -> None:
        if size_bytes > self.bytes_max:
            raise self.exceeded()

    def exceeded(self) -> errors.TooLarge:
        return errors.TooLarge(f"{self._noun} may have at most {self.bytes_max} bytes")


def _decoded(body: bytes, encoding: str, limit: _Limit) -> bytes:
    """The body without its gzip; a small one that would become huge is refused before it does."""
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise errors.UnsupportedMediaType(f"content-encoding {encoding!r} is not understood, gzip is")
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(body, limit.bytes_max)
    except zlib.error as error:
        raise errors.BadRequest(f"the body is not gzip: {error}") from error
    if unzip.unconsumed_tail:
        raise limit.exceeded()
    if not unzip.eof:
        raise errors.BadRequest("the body is not gzip: it is cut short")
    return plain

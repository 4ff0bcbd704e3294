"""HTTP/1.1 as bytes and values: request heads, bodies and chunks read; heads of answers written. Pure.

Strict where leniency lets two readers see different requests: lengths, `Transfer-Encoding`, line ends.
"""

from __future__ import annotations

import time

HEAD_BYTES_MAX = 65536
_LENGTH_DIGITS_MAX = 18
_SIZE_DIGITS_MAX = 16
# Sets of bytes, and `translate`, since the module `re` takes longer to import than all of this one.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VISIBLE = bytes(byte for byte in range(0x21, 0x100) if byte != 0x7F)
_DIGITS = b"0123456789"
_HEXADECIMAL = b"0123456789abcdefABCDEF"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VERSIONS = {b"HTTP/1.0": 0, b"HTTP/1.1": 1}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
    301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict", 410: "Gone",
    413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}  # fmt: skip


class BadRequest(Exception):
    """Bytes that are no request; the connection ends with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Head:
    """The head of a request. `headers` are in order, names in lower case."""

    __slots__ = ("expects_continue", "headers", "keeps_alive", "length", "method", "target", "version")

    def __init__(self, method: bytes, target: bytes, version: int) -> None:
        self.method, self.target, self.version = method, target, version
        self.headers: list[tuple[bytes, bytes]] = []
        self.length = 0
        """Of the body; -1 if it comes in chunks."""
        self.keeps_alive = version == 1
        self.expects_continue = False


class Reader:
    """Takes bytes in as they come; `head` and `body` give what is whole. One request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self._chunked = False
        self._at_end = True
        self._between = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request has come."""
        return self._at_end and not self._buffer

    @property
    def buffered(self) -> int:
        """How many bytes have come that nobody has taken."""
        return len(self._buffer)

    @property
    def body_is_over(self) -> bool:
        return self._at_end

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def head(self) -> Head | None:
        """The next request's head; None while it is not whole. `BadRequest` if it is none."""
        while self._buffer[:2] == b"\r\n":  # RFC 9112, 2.2: empty lines before a request
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise BadRequest(431, "the head of the request is too large")
            return None
        if end > HEAD_BYTES_MAX:
            raise BadRequest(431, "the head of the request is too large")
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        head = _first(lines[0])
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not name or name.translate(None, _TOKEN) or _ends_line(value):
                raise BadRequest(400, "a header is malformed")
            head.headers.append((name.lower(), value.strip(b" \t")))
        _frame(head)
        self._chunked, self._left = head.length < 0, max(head.length, 0)
        self._at_end, self._between = head.length == 0, False
        return head

    def body(self) -> bytes:
        """What of the body has come since; `body_is_over` says whether that was the last."""
        if self._chunked and not self._at_end:
            return self._chunks()
        part = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(part)
        self._at_end = not self._left
        return part

    def _chunks(self) -> bytes:
        parts = []
        while True:
            if self._left:
                part = bytes(self._buffer[: self._left])
                del self._buffer[: self._left]
                self._left -= len(part)
                parts.append(part)
                if self._left:
                    break
                self._between = True
            if self._between:
                if len(self._buffer) < 2:
                    break
                if self._buffer[:2] != b"\r\n":
                    raise BadRequest(400, "a chunk is longer than it says")
                del self._buffer[:2]
                self._between = False
            size = self._size()
            if size is None:
                break
            if size == 0:
                self._at_end = True
                break
            self._left = size
        return b"".join(parts)

    def _size(self) -> int | None:
        """Of the next chunk; 0 once the trailer is whole as well, None while it is not."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > 1024:
                raise BadRequest(400, "the size of a chunk is malformed")
            return None
        digits, _, extension = bytes(self._buffer[:end]).partition(b";")
        digits = digits.rstrip(b" \t")
        is_short = 0 < len(digits) <= _SIZE_DIGITS_MAX
        if not is_short or digits.translate(None, _HEXADECIMAL) or _ends_line(extension):
            raise BadRequest(400, "the size of a chunk is malformed")
        size = int(digits, 16)
        if size:
            del self._buffer[: end + 2]
            return size
        over = self._buffer.find(b"\r\n\r\n", end)
        if over < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise BadRequest(431, "the trailer of the request is too large")
            return None
        del self._buffer[: over + 4]
        return 0


def _first(line: bytes) -> Head:
    parts = line.split(b" ")
    if len(parts) != 3 or not all(parts):
        raise BadRequest(400, "the first line is no request")
    method, target, version = parts
    if version not in _VERSIONS:
        if version.startswith(b"HTTP/"):
            raise BadRequest(505, "only HTTP/1.1 is spoken here")
        raise BadRequest(400, "the first line is no request")
    if method.translate(None, _TOKEN) or target.translate(None, _VISIBLE):
        raise BadRequest(400, "the first line is no request")
    return Head(method, target, _VERSIONS[version])


def _ends_line(value: bytes) -> bool:
    """Whether some reader might see the end of a line in a value."""
    return b"\r" in value or b"\n" in value or b"\0" in value


def _frame(head: Head) -> None:
    """Where the body ends, and whether the connection goes on."""
    lengths = {value for name, value in head.headers if name == b"content-length"}
    codings = [value.lower() for name, value in head.headers if name == b"transfer-encoding"]
    hosts = [value for name, value in head.headers if name == b"host"]
    if len(hosts) > 1 or (head.version == 1 and not hosts):
        raise BadRequest(400, "a request has one Host")
    if codings:
        if lengths or head.version == 0:
            raise BadRequest(400, "Transfer-Encoding with Content-Length, or in HTTP/1.0")
        if codings != [b"chunked"]:
            raise BadRequest(501, "of transfer codings there is only chunked")
        head.length = -1
    elif lengths:
        length = next(iter(lengths))
        is_short = 0 < len(length) <= _LENGTH_DIGITS_MAX
        if len(lengths) > 1 or not is_short or length.translate(None, _DIGITS):
            raise BadRequest(400, "Content-Length is malformed")
        head.length = int(length)
    options = {
        option.strip().lower()
        for name, value in head.headers
        if name == b"connection"
        for option in value.split(b",")
    }
    head.keeps_alive = b"close" not in options and (head.version == 1 or b"keep-alive" in options)
    head.expects_continue = head.version == 1 and any(
        name == b"expect" and value.lower() == b"100-continue" for name, value in head.headers
    )


def go_on() -> bytes:
    """What a client waits for that expects 100-continue."""
    return _CONTINUE


def answer_head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """`ValueError` for a header that would end early."""
    lines = [b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, "").encode())]
    for name, value in headers:
        if not name or name.translate(None, _TOKEN) or _ends_line(value):
            raise ValueError(f"the header {name!r} is malformed")
        lines.append(name + b": " + value)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def date(now_s: float) -> bytes:
    """The time as HTTP writes it."""
    year, month, day, hour, minute, second, weekday = time.gmtime(now_s)[:7]
    words = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02} GMT"
    return words.encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def unquoted(path: bytes) -> str:
    """A path with its %-escapes replaced."""
    if b"%" not in path:
        return path.decode("utf-8", "replace")
    parts = path.split(b"%")
    whole = [parts[0]]
    for part in parts[1:]:
        digits = part[:2]
        if len(digits) == 2 and not digits.translate(None, _HEXADECIMAL):
            whole.append(bytes((int(digits, 16),)) + part[2:])
        else:
            whole.append(b"%" + part)
    return b"".join(whole).decode("utf-8", "replace")

"""The bytes of HTTP/1.1 as a function's server reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.serverless.functions.runtimes.python import http1


def read(data: bytes, step: int = 1 << 20) -> tuple[http1.Head, bytes, http1.Reader]:
    """A request whose bytes come in pieces."""
    reader, head, body = http1.Reader(), None, b""
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        if head is None:
            head = reader.head()
        if head is not None:
            body += reader.body()
    assert head is not None
    return head, body, reader


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_request_is_the_same_however_it_is_cut(step: int) -> None:
    """Lengths, chunks with extensions, and trailers."""
    plain = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: x\r\nX-A:  b c \t\r\nContent-Length: 5\r\n\r\nhello"
    head, body, reader = read(plain, step)
    assert (head.method, head.target, body) == (b"POST", b"/a?b=c", b"hello")
    assert head.headers == [(b"host", b"x"), (b"x-a", b"b c"), (b"content-length", b"5")]
    assert reader.body_is_over
    assert reader.is_idle
    chunked = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"5;a=b\r\nhello\r\n1 \r\n!\r\n0\r\nX-T: 1\r\n\r\n"
    )
    head, body, reader = read(chunked, step)
    assert (body, reader.body_is_over, reader.is_idle) == (b"hello!", True, True)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(1, 50))
def test_chunks_are_read_as_they_are_written(parts: list[bytes], step: int) -> None:
    """Whatever their sizes, and however they arrive."""
    data = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(map(http1.chunk, parts)) + b"0\r\n\r\n"
    _, body, reader = read(data, step)
    assert body == b"".join(parts)
    assert reader.body_is_over


def test_what_belongs_to_the_next_request_is_left_for_it() -> None:
    """Two requests in one piece are two."""
    reader = http1.Reader()
    reader.feed(
        b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\naGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    first = reader.head()
    assert first is not None
    assert reader.body() == b"a"
    second = reader.head()
    assert second is not None
    assert second.target == b"/2"


HOST = b"Host: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\nB: c\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            501,
        ),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 70000, 431),
    ],
)
def test_what_two_readers_may_see_differently_is_refused(data: bytes, status: int) -> None:
    """A request is read strictly: two of them cannot hide in one."""
    reader = http1.Reader()
    reader.feed(data)
    with pytest.raises(http1.BadRequest) as refused:
        reader.head()
    assert refused.value.status == status


@pytest.mark.parametrize(
    "chunks", [b"x\r\n", b"5\r\nhelloX\r\n", b"-1\r\n", b"0x5\r\n", b"1" * 2000, b"5\nhello"]
)
def test_chunks_that_lie_are_refused(chunks: bytes) -> None:
    """A size is hexadecimal digits, and a chunk is as long as it says."""
    reader = http1.Reader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert reader.head() is not None
    reader.feed(b"\r\n" * 3)
    with pytest.raises(http1.BadRequest):
        reader.body()


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [(b"1.1", b"", True), (b"1.1", b"Close", False), (b"1.0", b"", False), (b"1.0", b"keep-alive", True)],
)
def test_connections_go_on_as_they_were_agreed(version: bytes, connection: bytes, keeps: bool) -> None:
    """By version and by what the client says."""
    extra = b"Connection: " + connection + b"\r\n" if connection else b""
    head, _, _ = read(b"GET / HTTP/" + version + b"\r\nHost: x\r\n" + extra + b"\r\n")
    assert head.keeps_alive is keeps


def test_answers_cannot_be_split_by_a_header() -> None:
    """A header that would end early is refused."""
    assert http1.answer_head(200, [(b"a", b"b")]) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"
    for pair in ((b"a", b"b\r\nc: d"), (b"a b", b"c"), (b"", b"c")):
        with pytest.raises(ValueError, match="malformed"):
            http1.answer_head(200, [pair])


def test_paths_lose_their_escapes() -> None:
    """Those that are none stay."""
    assert http1.unquoted(b"/a%20b/%C3%A9%zz%") == "/a b/é%zz%"


def test_dates_are_written_as_http_has_them() -> None:
    """In English and of Greenwich, whatever the locale."""
    assert http1.date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"

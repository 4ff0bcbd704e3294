"""SPDY from clients that may be hostile."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.apiserver.spdy import frames
from ondol.apiserver.spdy.connection import STREAMS_MAX, Connection, Stream
from ondol.apiserver.spdy.dictionary import DICTIONARY
from ondol.apiserver.spdy.frames import ProtocolError

pytestmark = pytest.mark.anyio


def syn(headers: frames.Headers, stream: int, flags: int = 0) -> bytes:
    body = frames.numbers(stream, 0) + b"\0\0" + headers.written({"streamtype": "data"})
    return frames.control(frames.SYN_STREAM, body, flags)


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def serve(*pieces: bytes) -> tuple[list[Stream], list[frames.Frame]]:
    """The streams that were opened and what was answered."""
    opened: list[Stream] = []
    sent = bytearray()

    async def send(data: bytes) -> None:
        sent.extend(data)

    with anyio.fail_after(20):
        await Connection(send, opened.append).run(chunks(*pieces))
    return opened, list(frames.Reader().feed(bytes(sent)))


def test_the_dictionary_is_that_of_the_draft() -> None:
    """Compressors name it by its checksum, which is in every first block of clients."""
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_frames_do_not_depend_on_how_they_are_cut(payload: bytes, size: int) -> None:
    """Nor is anything lost or made up."""
    sent = frames.data(5, payload, is_last=True) + frames.control(frames.PING, frames.numbers(1))
    reader = frames.Reader()
    received = [f for at in range(0, len(sent), size) for f in reader.feed(sent[at : at + size])]
    assert b"".join(f.data for f in received if isinstance(f, frames.Data)) == payload
    assert [f.is_last for f in received if isinstance(f, frames.Data)][-1]
    assert isinstance(received[-1], frames.Control)


@given(st.binary(max_size=200))
def test_anything_is_answered_or_refused(garbage: bytes) -> None:
    """By an error of the protocol alone."""
    try:
        for frame in frames.Reader().feed(garbage):
            if isinstance(frame, frames.Control):
                frames.Headers().read(frame.body)
    except ProtocolError:
        pass


def test_headers_that_grow_without_end() -> None:
    """A few kilobytes that would become megabytes are refused before they do."""
    deflate = zlib.compressobj(zdict=DICTIONARY)
    bomb = deflate.compress(frames.numbers(1, 1 << 24) + b"x" * (1 << 24)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(ProtocolError, match="too long"):
        frames.Headers().read(bomb)


@pytest.mark.parametrize(
    "sent",
    [
        frames.control(frames.SYN_STREAM, frames.numbers(2, 0) + b"\0\0" + frames.Headers().written({})),
        frames.control(frames.SYN_STREAM, b"\0"),
        frames.control(frames.PING, b""),
        b"\x80\x02" + frames.control(frames.PING, frames.numbers(1))[2:],
        frames.control(frames.SETTINGS, b"\0" * 20_000),
    ],
)
async def test_what_is_not_spdy_ends_the_connection(sent: bytes) -> None:
    """An even number, a short frame, another version, a frame of any length."""
    with pytest.raises(ProtocolError):
        await serve(sent)


async def test_ten_thousand_streams() -> None:
    """Those beyond the bound are refused one by one; the others go on."""
    headers = frames.Headers()
    opened, answers = await serve(*(syn(headers, number) for number in range(1, 20_001, 2)))
    assert len(opened) == STREAMS_MAX
    resets = [f for f in answers if isinstance(f, frames.Control) and f.kind == frames.RST_STREAM]
    assert len(resets) == 10_000 - STREAMS_MAX
    for stream in opened:
        stream.forget()


async def test_a_ping_is_answered_and_who_goes_away_is_let_go() -> None:
    """Pings of a client are odd."""
    ping = frames.control(frames.PING, frames.numbers(7))
    _, answers = await serve(ping, frames.control(frames.GOAWAY, frames.numbers(0, 0)), b"\xff" * 9)
    assert answers == [frames.Control(frames.PING, 0, frames.numbers(7))]


async def test_a_stream_that_nobody_reads_stops_the_reading() -> None:
    """No more than a few pieces are kept of it, however much is sent."""
    headers = frames.Headers()
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield syn(headers, 1)
        while True:
            taken += 1
            yield frames.data(1, b"x" * 1000)

    opened: list[Stream] = []

    async def send(data: bytes) -> None:
        """Nobody looks."""

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Connection(send, opened.append).run, endless())
        await anyio.wait_all_tasks_blocked()
        assert taken < 32
        tasks.cancel_scope.cancel()
    opened[0].forget()

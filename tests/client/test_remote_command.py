"""Processes in pods as the client speaks with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from ondol.base import errors
from ondol.client import remote_command

pytestmark = pytest.mark.anyio


class Socket:
    """A server that says its messages once it has heard so many."""

    def __init__(self, *says: bytes, waits_for: int = 0) -> None:
        self.says = list(says)
        self.waits_for = waits_for
        self.heard: list[bytes] = []
        self._has_heard = anyio.Event()

    async def receive(self) -> bytes | None:
        if self.waits_for:
            await self._has_heard.wait()
        return self.says.pop(0) if self.says else None

    async def send(self, message: bytes) -> None:
        self.heard.append(message)
        if len(self.heard) >= self.waits_for:
            self._has_heard.set()


async def _of(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def test_both_ways() -> None:
    """Input and its end, sizes, both outputs, and the exit code."""
    out, err = bytearray(), bytearray()
    outcome = b'\x03{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}'
    socket = Socket(b"\x01", b"\x01one", b"\x02bad", b"\x01two", outcome, waits_for=3)
    with anyio.fail_after(5):
        code = await remote_command.run(
            socket, {1: out.extend, 2: err.extend}, stdin=_of(b"in"), sizes=_of((80, 24))
        )
    assert (code, bytes(out), bytes(err)) == (7, b"onetwo", b"bad")
    assert sorted(socket.heard) == [b"\x00in", b'\x04{"Width": 80, "Height": 24}', b"\xff\x00"]


async def test_input_that_never_ends() -> None:
    """Keeps nobody once the process has ended."""

    async def typed() -> AsyncIterator[bytes]:
        await anyio.sleep_forever()
        yield b""

    with anyio.fail_after(5):
        assert await remote_command.run(Socket(b'\x03{"status":"Success"}'), {}, stdin=typed()) == 0


@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (None, errors.Unavailable, "the connection ended before the process did"),
        ({"status": "Failure", "message": "no such file", "code": 500}, errors.Internal, "no such file"),
        (
            {"status": "Failure", "message": "gone", "reason": "NotFound", "code": 404},
            errors.NotFound,
            "gone",
        ),
    ],
)
def test_ends_that_are_none_of_the_process(outcome: Any, error: type[errors.ApiError], words: str) -> None:
    """Are errors."""
    with pytest.raises(error, match=words):
        remote_command.exit_code(outcome)

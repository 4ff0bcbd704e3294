"""Plain SPDY, as older clients ask for it: exec, attach and port-forward by one upgraded connection.

The conversation itself is that of the WebSocket: the streams of a command become the channels of
`v5.channel.k8s.io`, and a port-forward is the SPDY that is tunnelled through a WebSocket otherwise.
Sources: kubelet's `remotecommand/httpstream.go`, `portforward/httpstream.go`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from ondol.apiserver.exchange import ByteStream, Socket, Upgrade
from ondol.apiserver.spdy.connection import Connection, Stream
from ondol.apiserver.spdy.frames import ProtocolError
from ondol.base import errors
from ondol.base.clock import Clock

SPOKEN: Final = "SPDY/3.1"
_VERSION: Final = "X-Stream-Protocol-Version"
_COMMAND: Final = "v4.channel.k8s.io"
_CHANNELS: Final = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
_CLOSED: Final = 255
_CREATION_S: Final = 30.0
_PIECES_MAX: Final = 16


def is_asked(scope: Mapping[str, Any]) -> bool:
    """Whether the client would go on in SPDY."""
    return any(name == b"upgrade" and value.lower() == b"spdy/3.1" for name, value in scope["headers"])


def chosen(scope: Mapping[str, Any], upgrade: Upgrade) -> str:
    """The first version that both speak; `BadRequest` or `Forbidden` if there is none."""
    values = [value for name, value in scope["headers"] if name == _VERSION.lower().encode()]
    offered = [word.strip().decode("latin-1") for value in values for word in value.split(b",")]
    if not offered:
        raise errors.BadRequest(f"unable to upgrade: {_VERSION} is required")
    spoken = _spoken(upgrade)
    version: str | None = next((each for each in offered if each in spoken), None)
    if version is None:
        raise errors.Forbidden(
            "unable to upgrade: unable to negotiate protocol: client supports "
            f"[{' '.join(offered)}], server accepts [{' '.join(spoken)}]"
        )
    return version


def _spoken(upgrade: Upgrade) -> Sequence[str]:
    """A command's older versions end without a Status, and their clients are from before 2017."""
    if upgrade.streams:
        return (_COMMAND,)
    return [each.partition("+")[2] for each in upgrade.protocols if each.startswith(f"{SPOKEN}+")]


def head(version: str) -> bytes:
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        f"Upgrade: {SPOKEN}",
        f"{_VERSION}: {version}",
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


@contextlib.asynccontextmanager
async def spoken(taken: ByteStream, upgrade: Upgrade, version: str, clock: Clock) -> AsyncIterator[Socket]:
    """The conversation as one by WebSocket, once the client has opened its streams."""
    if not upgrade.streams:
        yield _Bytes(taken, f"{SPOKEN}+{version}")
        return
    command = _Command(taken, upgrade.streams)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(command.run)
            with clock.move_on_after(_CREATION_S):
                await command.is_complete.wait()
            yield command
            await command.end()
            tasks.cancel_scope.cancel()
    finally:
        command.forget()


class _Bytes:
    """A connection whose bytes are one endless message. Implements `Socket`."""

    def __init__(self, taken: ByteStream, protocol: str) -> None:
        self._taken = taken
        self.protocol = protocol

    async def receive(self) -> tuple[bytes, bool] | None:
        data = await self._taken.receive()
        return (data, True) if data else None

    async def send(self, data: bytes | str) -> None:
        await self._taken.send(data if isinstance(data, bytes) else data.encode())


class _Command:
    """A command's streams as channels. Implements `Socket`."""

    protocol = "v5.channel.k8s.io"

    def __init__(self, taken: ByteStream, names: Collection[str]) -> None:
        self._taken = taken
        self._names = names
        self._streams: dict[str, Stream] = {}
        self._incoming, self._pieces = anyio.create_memory_object_stream[bytes](_PIECES_MAX)
        self.is_complete = anyio.Event()
        self._tasks: TaskGroup

    async def run(self) -> None:
        connection = Connection(self._taken.send, self._open)
        async with anyio.create_task_group() as self._tasks, self._incoming:
            with contextlib.suppress(ProtocolError):  # the client was told
                await connection.run(self._received())
            self.is_complete.set()  # nothing more is opened
            self._tasks.cancel_scope.cancel()

    async def _received(self) -> AsyncIterator[bytes]:
        while data := await self._taken.receive():
            yield data

    def _open(self, stream: Stream) -> None:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._names or kind in self._streams:
            stream.forget()
            return
        self._streams[kind] = stream
        if kind in ("stdin", "resize"):
            self._tasks.start_soon(self._hand_on, kind, stream)
        if self._streams.keys() == set(self._names):
            self.is_complete.set()

    async def _hand_on(self, kind: str, stream: Stream) -> None:
        async for piece in stream.pieces():
            await self._incoming.send(bytes((_CHANNELS[kind],)) + piece)
        if kind == "stdin":
            await self._incoming.send(bytes((_CLOSED, _CHANNELS[kind])))

    async def receive(self) -> tuple[bytes, bool] | None:
        try:
            return await self._pieces.receive(), True
        except anyio.EndOfStream:
            return None

    async def send(self, data: bytes | str) -> None:
        """Nothing more is sent once how it ended was."""
        message = data if isinstance(data, bytes) else data.encode()
        for kind, channel in _CHANNELS.items():
            if message[0] == channel and kind in self._streams:
                await self._streams[kind].send(message[1:])

    async def end(self) -> None:
        for stream in self._streams.values():
            await stream.close()

    def forget(self) -> None:
        """Whatever is left of it is nobody's any more."""
        for stream in self._streams.values():
            stream.forget()
        self._incoming.close()
        self._pieces.close()

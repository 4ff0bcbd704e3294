"""pods/portforward: connections to the ports of a pod, carried to the agent of its node.

kubectl speaks SPDY inside of a WebSocket: two streams for each connection, one for its data and one for what
goes wrong. Others have two channels for each port of the query (`ports`), whose first messages name the port.
Sources: kubelet's `portforward/websocket.go` and `httpstream.go`.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ondol.api import objects
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Request, Socket, Upgrade
from ondol.apiserver.ports import NodeSocket
from ondol.apiserver.served import Served
from ondol.apiserver.spdy.connection import Connection, Stream
from ondol.apiserver.spdy.frames import ProtocolError
from ondol.apiserver.subresources import logs, streams
from ondol.base import errors

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
_CHANNELS: Final = "v4.channel.k8s.io"
_DATA, _CLOSED = 0, 255
_PORTS_MAX: Final = 127
Dial = Callable[[int], contextlib.AbstractAsyncContextManager[NodeSocket]]


async def forward(core: Core, request: Request, served: Served) -> Upgrade:
    info = request.info
    pod = streams.live_pod(core, request, served)
    node = logs.node_of(core, pod)
    proxy = streams.proxy_of(core)
    ports = _ports(request)
    options = {"kind": "PodPortForwardOptions", "apiVersion": "v1", **({"ports": ports} if ports else {})}
    await streams.admit(core, request, served, options)
    path = f"/portForward/{info.namespace}/{info.name}"
    uid = objects.uid(pod)

    def dial(port: int) -> contextlib.AbstractAsyncContextManager[NodeSocket]:
        return proxy.connect(node, path, [("port", str(port))])

    async def converse(accept: streams.Accept) -> None:
        socket = await accept()
        if socket.protocol == TUNNEL:
            await _Tunnel(socket, dial, uid).run()
        else:
            await _Channels(socket, dial, ports, uid).run()

    # Without a port in its query only a tunnel says which one it wants.
    return Upgrade((TUNNEL, _CHANNELS, "") if ports else (TUNNEL,), converse)


def _ports(request: Request) -> list[int]:
    texts = [text for value in request.values("ports") for text in value.split(",")]
    if len(texts) > _PORTS_MAX:
        raise errors.BadRequest(f"at most {_PORTS_MAX} ports can be forwarded by one connection")
    return [port_number(text) for text in texts]


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536):
        raise errors.BadRequest(f'unable to parse "{text[:40]}" as a port')
    return int(text)


def _failure(port: str, uid: str, error: errors.ApiError) -> bytes:
    return f"error forwarding port {port} to pod {uid}: {error.message}".encode()


async def _received(socket: Socket) -> AsyncIterator[bytes]:
    while (received := await socket.receive()) is not None:
        yield received[0]


async def copy(
    agent: NodeSocket, incoming: AsyncIterator[bytes], send: Callable[[bytes], Awaitable[None]]
) -> None:
    """Both directions of one connection, until the pod's end of it is over."""

    async def outward() -> None:
        async for piece in incoming:
            await agent.send(bytes((_DATA,)) + piece)
        await agent.send(bytes((_CLOSED, _DATA)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outward)
        while (message := await agent.receive()) is not None and message[0] == _DATA:
            await send(message[1:])
        tasks.cancel_scope.cancel()


class _Tunnel:
    """SPDY inside of a WebSocket."""

    def __init__(self, socket: Socket, dial: Dial, uid: str) -> None:
        self._socket = socket
        self._dial = dial
        self._uid = uid
        self._halves: dict[str, dict[str, Stream]] = {}
        """By request, the streams that wait for the other one."""
        self._tasks: TaskGroup

    async def run(self) -> None:
        connection = Connection(self._socket.send, self._opened)
        async with anyio.create_task_group() as self._tasks:
            try:
                with contextlib.suppress(ProtocolError):  # the client was told
                    await connection.run(_received(self._socket))
            finally:
                for stream in [each for pair in self._halves.values() for each in pair.values()]:
                    stream.forget()
            self._tasks.cancel_scope.cancel()

    def _opened(self, stream: Stream) -> None:
        kind, request = stream.headers.get("streamtype", ""), stream.headers.get("requestid", "")
        pair = self._halves.setdefault(request, {})
        pair[kind] = stream
        if {"data", "error"} <= pair.keys():
            del self._halves[request]
            self._tasks.start_soon(self._forward, pair["data"], pair["error"])
        elif kind not in ("data", "error"):
            del pair[kind]
            self._tasks.start_soon(self._refuse, stream)

    async def _refuse(self, stream: Stream) -> None:
        await stream.close()
        stream.forget()

    async def _forward(self, data: Stream, error: Stream) -> None:
        try:
            port = port_number(data.headers.get("port", ""))
            async with self._dial(port) as agent:
                await copy(agent, data.pieces(), data.send)
        except errors.ApiError as failure:
            await error.send(_failure(data.headers.get("port", ""), self._uid, failure))
        finally:
            with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
                await data.close()
                await error.close()
            data.forget()
            error.forget()


@dataclass(slots=True)
class _Port:
    """One port of a client that speaks in channels."""

    number: int
    incoming: MemoryObjectSendStream[bytes] = field(init=False)
    pieces: MemoryObjectReceiveStream[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.incoming, self.pieces = anyio.create_memory_object_stream[bytes](16)

    async def outward(self) -> AsyncIterator[bytes]:
        async with self.pieces:
            async for piece in self.pieces:
                yield piece


class _Channels:
    """Two channels a port: an even one for its data, the next for what goes wrong."""

    def __init__(self, socket: Socket, dial: Dial, ports: list[int], uid: str) -> None:
        self._socket = socket
        self._dial = dial
        self._uid = uid
        self._ports = [_Port(number) for number in ports]

    async def run(self) -> None:
        for index, port in enumerate(self._ports):
            for channel in (2 * index, 2 * index + 1):
                await self._socket.send(bytes((channel,)) + struct.pack("<H", port.number))
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await self._listen()
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            async with anyio.create_task_group() as forwarding:
                for index, port in enumerate(self._ports):
                    forwarding.start_soon(self._forward, index, port)
            tasks.cancel_scope.cancel()

    async def _forward(self, index: int, port: _Port) -> None:
        async def send(data: bytes) -> None:
            await self._socket.send(bytes((2 * index,)) + data)

        try:
            async with self._dial(port.number) as agent:
                await copy(agent, port.outward(), send)
        except errors.ApiError as failure:
            text = _failure(str(port.number), self._uid, failure)
            await self._socket.send(bytes((2 * index + 1,)) + text)
        finally:
            port.pieces.close()
            port.incoming.close()

    async def _listen(self) -> None:
        """Hand on what the client says, until it is gone."""
        channel = -1
        while (received := await self._socket.receive()) is not None:
            piece, is_whole = received
            if channel < 0 and piece:
                channel, piece = piece[0], piece[1:]
            if piece and channel >= 0 and channel % 2 == 0 and channel // 2 < len(self._ports):
                with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it is over
                    await self._ports[channel // 2].incoming.send(piece)
            if is_whole:
                channel = -1

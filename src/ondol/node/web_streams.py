"""What is spoken with a pod through the node's HTTP interface: commands, attached containers, ports.

Each is a WebSocket between the API server and this node. A message is the number of a channel (one byte) and
what goes through it:

    0 input    1 output    2 errors    3 the outcome (JSON, last)    4 size of the terminal (JSON)
    255        the end of the channel whose number follows

A port has channel 0 alone, in both directions. The first message is the node's: channel 3 with `{}`, or with
why it refuses (`status`, `error`). The client's going ends all of it.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread

from ondol.base import errors
from ondol.node.runtime.port import Command, RuntimeFailed, Session
from ondol.web.application import BaseRoute, WebSocket, WebSocketDisconnect, WebSocketRoute

INPUT: Final = 0
OUTCOME: Final = 3
SIZE: Final = 4
CLOSED: Final = 255
_CHUNK: Final = 64 * 1024
_SIZE_MAX: Final = 65535
_DIALS_MAX: Final = 16


class Speaking(Protocol):
    """Where what is spoken with is."""

    def command(
        self, namespace: str, pod: str, container: str, command: Command
    ) -> AbstractAsyncContextManager[Session]:
        """`NotFound` or `BadRequest` where it cannot be run."""

    def attach(
        self, namespace: str, pod: str, container: str, *, stdin: bool
    ) -> AbstractAsyncContextManager[Session]: ...

    def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        """Connect to a port of the pod as from inside of it; blocks. `OSError` if nothing listens there."""


class Streams:
    """The routes."""

    def __init__(self, subject: Speaking) -> None:
        self._subject = subject
        self._dials = anyio.CapacityLimiter(_DIALS_MAX)

    def routes(self) -> list[BaseRoute]:
        place = "{namespace}/{pod}/{container}"
        return [
            WebSocketRoute(f"/exec/{place}", self._exec),
            WebSocketRoute(f"/attach/{place}", self._attach),
            WebSocketRoute("/portForward/{namespace}/{pod}", self._port),
        ]

    async def _exec(self, websocket: WebSocket) -> None:
        query = websocket.query_params
        flags = {name: query.get(name) == "true" for name in ("stdin", "stdout", "stderr")}
        command = Command(tuple(query.getlist("command")), terminal=query.get("tty") == "true", **flags)
        await _with(websocket, lambda: self._subject.command(**websocket.path_params, command=command))

    async def _attach(self, websocket: WebSocket) -> None:
        stdin = websocket.query_params.get("stdin") == "true"
        await _with(websocket, lambda: self._subject.attach(**websocket.path_params, stdin=stdin))

    async def _port(self, websocket: WebSocket) -> None:
        port = int(websocket.query_params.get("port", "0"))

        def dial() -> socket.socket:
            return self._subject.dial(**websocket.path_params, port=port)

        await websocket.accept()
        try:
            connected = await anyio.to_thread.run_sync(dial, limiter=self._dials)
        except OSError as error:
            refusal = errors.BadRequest(f"connecting to port {port}: {error.strerror or error}")
            await _refuse(websocket, refusal)
            return
        except errors.ApiError as error:
            await _refuse(websocket, error)
            return
        with connected:
            connected.setblocking(False)
            await _say(websocket, {})
            await _copy(websocket, connected)


async def _with(websocket: WebSocket, opened: Callable[[], AbstractAsyncContextManager[Session]]) -> None:
    await websocket.accept()
    async with contextlib.AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(opened())
        except errors.ApiError as error:
            await _refuse(websocket, error)
            return
        except RuntimeFailed as error:
            await _refuse(websocket, errors.Internal(str(error)))
            return
        await _say(websocket, {})
        await converse(websocket, session)


async def _refuse(websocket: WebSocket, error: errors.ApiError) -> None:
    await _say(websocket, {"status": error.status_code, "error": error.message})
    await websocket.close()


async def _say(websocket: WebSocket, outcome: dict[str, Any]) -> None:
    await websocket.send_bytes(bytes((OUTCOME,)) + json.dumps(outcome).encode())


async def converse(websocket: WebSocket, session: Session) -> None:
    """Carry a session's streams until it ends, and say how it ended; or until the client is gone."""
    with _unless_gone():
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await _hear(websocket, session)
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            while (piece := await session.read())[1]:
                await websocket.send_bytes(bytes((piece[0],)) + piece[1])
            await _say(websocket, await _outcome(session))
            tasks.cancel_scope.cancel()
        await websocket.close()


@contextlib.contextmanager
def _unless_gone() -> Any:
    """A client that goes ends what was for it; that is no failure."""
    try:
        yield
    except* WebSocketDisconnect:
        pass


async def _outcome(session: Session) -> dict[str, Any]:
    try:
        return {"code": await session.wait()}
    except RuntimeFailed as error:
        return {"error": str(error)}


async def _hear(websocket: WebSocket, session: Session) -> None:
    """What the client says, until it is gone."""
    async for channel, data in _messages(websocket):
        if channel == INPUT:
            await session.write(data)
        elif channel == CLOSED and data == bytes((INPUT,)):
            session.close_input()
        elif channel == SIZE and (size := terminal_size(data)) is not None:
            await session.resize(*size)


async def _messages(websocket: WebSocket) -> AsyncIterator[tuple[int, bytes]]:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await websocket.receive_bytes()
            if message:
                yield message[0], message[1:]


def terminal_size(data: bytes) -> tuple[int, int] | None:
    """Columns and rows as clients write them; None if that is not what it says."""
    try:
        size = json.loads(data)
        width, height = int(size["Width"]), int(size["Height"])
    except (ValueError, TypeError, KeyError):
        return None
    return (width, height) if 0 < width <= _SIZE_MAX and 0 < height <= _SIZE_MAX else None


async def _copy(websocket: WebSocket, connected: socket.socket) -> None:
    """Both directions, each to its own end."""
    with _unless_gone():
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await _to_port(websocket, connected)
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            while data := await _received(connected):
                await websocket.send_bytes(bytes((INPUT,)) + data)
            await websocket.send_bytes(bytes((CLOSED, INPUT)))
            await websocket.close()
            tasks.cancel_scope.cancel()


async def _to_port(websocket: WebSocket, connected: socket.socket) -> None:
    async for channel, data in _messages(websocket):
        if channel == INPUT:
            await _send(connected, data)
        elif channel == CLOSED:
            with contextlib.suppress(OSError):  # it is closed already
                connected.shutdown(socket.SHUT_WR)


async def _received(connected: socket.socket) -> bytes:
    while True:
        try:
            return connected.recv(_CHUNK)
        except BlockingIOError:
            await anyio.wait_readable(connected)
        except OSError:
            return b""


async def _send(connected: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[connected.send(view) :]
        except BlockingIOError:
            await anyio.wait_writable(connected)
        except OSError:
            return  # what it takes no more is lost

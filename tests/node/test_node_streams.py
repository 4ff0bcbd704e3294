"""Commands and ports of pods through the node's HTTP interface, with sessions of the test's own."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import anyio.to_thread
import pytest

from ondol.base import clock, errors
from ondol.node import web, web_streams
from ondol.node.network import ports
from ondol.node.runtime.port import STDERR, STDOUT, Command, RuntimeFailed

pytestmark = pytest.mark.anyio


class Session:
    """Says its words, then ends with a code; or hears until its input ends, where it has no words."""

    def __init__(self, *words: tuple[int, bytes], code: int = 0, failure: str = "") -> None:
        self.words = list(words)
        self.code = code
        self.failure = failure
        self.heard: list[Any] = []
        self.is_open = True
        self._input_ended = anyio.Event()

    async def read(self) -> tuple[int, bytes]:
        if self.words:
            return self.words.pop(0)
        await self._input_ended.wait()
        return STDOUT, b""

    async def write(self, data: bytes) -> None:
        self.heard.append(data)

    def close_input(self) -> None:
        self._input_ended.set()

    async def resize(self, width: int, height: int) -> None:
        self.heard.append((width, height))

    async def wait(self) -> int:
        if self.failure:
            raise RuntimeFailed(self.failure)
        return self.code


class Subject:
    def __init__(self, session: Session | None = None) -> None:
        self.session = session
        self.commands: list[Command] = []

    @contextlib.asynccontextmanager
    async def command(
        self, namespace: str, pod: str, container: str, command: Command
    ) -> AsyncIterator[Session]:
        assert (namespace, pod, container) == ("default", "a", "main")
        if self.session is None:
            raise errors.NotFound('container not found ("main")')
        self.commands.append(command)
        try:
            yield self.session
        finally:
            self.session.is_open = False

    @contextlib.asynccontextmanager
    async def attach(
        self, namespace: str, pod: str, container: str, *, stdin: bool
    ) -> AsyncIterator[Session]:
        if self.session is None:
            raise RuntimeFailed(f"{namespace}/{pod}/{container} is gone: {stdin}")
        yield self.session

    def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        assert (namespace, pod) == ("default", "a")
        return ports.dial(port)

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> web.LogPlace:
        raise AssertionError(namespace, pod, container, previous)

    async def settle(self) -> None:
        raise AssertionError

    def summary(self) -> Mapping[str, Any]:
        raise AssertionError

    def pods(self) -> list[Mapping[str, Any]]:
        raise AssertionError

    async def metrics(self, page: str) -> bytes:
        raise AssertionError(page)


async def speak(
    subject: Subject, target: str, *messages: bytes, has_token: bool = True, stays: bool = True
) -> list[dict[str, Any]]:
    """What the interface sends to who says these messages, and then stays or goes."""
    path, _, query = target.partition("?")
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"authorization", b"Bearer token" if has_token else b"Bearer guess")],
        "subprotocols": [],
    }
    incoming: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    incoming += [{"type": "websocket.receive", "bytes": message} for message in messages]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        if stays:
            await anyio.sleep_forever()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Any) -> None:
        sent.append(message)

    with anyio.fail_after(10):
        await web.application(subject, clock.SystemClock(), "token")(scope, receive, send)
    return sent


def texts(sent: list[dict[str, Any]]) -> list[bytes]:
    return [message["bytes"] for message in sent if message["type"] == "websocket.send"]


async def test_a_command_is_spoken_with() -> None:
    """Its words by their channels, how it ended last; input, its end and sizes reach it."""
    session = Session((STDOUT, b"out"), (STDERR, b"err"), code=3)
    subject = Subject(session)
    messages = (b"\x00in", b'\x04{"Width":65535,"Height":65535}', b"\x04[]", b"\x04{}", b"\xff\x00")
    sent = await speak(
        subject, "/exec/default/a/main?command=ls&command=-l&stdin=true&stdout=true", *messages
    )
    assert texts(sent) == [b"\x03{}", b"\x01out", b"\x02err", b'\x03{"code": 3}']
    assert session.heard == [b"in", (65535, 65535)]
    assert subject.commands == [Command(("ls", "-l"), stdin=True, stderr=False)]
    assert not session.is_open


@pytest.mark.parametrize(
    "size", [b'{"Width":65536,"Height":1}', b'{"Width":-1,"Height":1}', b'{"Width":"x"}', b"\xff", b"1"]
)
def test_sizes_that_no_terminal_has(size: bytes) -> None:
    """They are not heard."""
    assert web_streams.terminal_size(size) is None


async def test_who_goes_ends_the_command() -> None:
    """Whatever it still does."""
    session = Session()
    await speak(Subject(session), "/exec/default/a/main?command=ls", stays=False)
    assert not session.is_open


async def test_what_cannot_be_begun_is_told() -> None:
    """By the first message; what the runtime refuses later, by the last."""
    first = texts(await speak(Subject(), "/exec/default/a/main?command=ls"))
    assert json.loads(first[0][1:]) == {"status": 404, "error": 'container not found ("main")'}
    attached = texts(await speak(Subject(), "/attach/default/a/main"))
    assert json.loads(attached[0][1:])["status"] == 500
    refused = Session(failure="no such file")
    last = texts(await speak(Subject(refused), "/exec/default/a/main?command=x", b"\xff\x00"))[-1]
    assert json.loads(last[1:]) == {"error": "no such file"}


async def test_the_token_is_needed() -> None:
    """Nothing is accepted without it."""
    session = Session()
    subject = Subject(session)
    sent = await speak(subject, "/exec/default/a/main?command=ls", has_token=False)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert not subject.commands


async def test_a_port_is_forwarded() -> None:
    """Both directions, each to its own end; who answers only at the end of what is asked is heard, too."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            accepted, _ = listening.accept()
            with accepted:
                asked = b""
                while piece := accepted.recv(100):
                    asked += piece
                accepted.sendall(asked.upper())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer)
            sent = await speak(
                Subject(), f"/portForward/default/a?port={port}", b"\x00ask", b"\x00ing", b"\xff\x00"
            )
    assert texts(sent) == [b"\x03{}", b"\x00ASKING", b"\xff\x00"]


async def test_a_port_that_nobody_listens_at() -> None:
    """Told by the first message."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (first,) = texts(await speak(Subject(), f"/portForward/default/a?port={port}"))
    answer = json.loads(first[1:])
    assert (answer["status"], answer["error"]) == (400, f"connecting to port {port}: Connection refused")

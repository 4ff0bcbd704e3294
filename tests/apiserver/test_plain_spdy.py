"""Plain SPDY for commands and ports: the same conversation as by WebSocket, with a node of the test's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from ondol.apiserver import takeover
from ondol.apiserver.spdy import frames
from ondol.base import errors

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"
EXEC = f"{PODS}/p/exec?command=sh&stdin=true&stdout=true&stderr=true"
V4 = "v4.channel.k8s.io"
Make = Callable[..., dict[str, Any]]


class Agent:
    """A node's agent: says its messages once it has heard so many, and remembers them."""

    def __init__(self, *says: bytes, waits_for: int = 0, refusal: errors.ApiError | None = None) -> None:
        self.says = list(says)
        self.waits_for = waits_for
        self.refusal = refusal
        self.heard: list[bytes] = []
        self.has_heard = anyio.Event()

    @asynccontextmanager
    async def connect(self, *_: Any) -> AsyncIterator[Agent]:
        if self.refusal is not None:
            raise self.refusal
        yield self

    async def send(self, message: bytes) -> None:
        self.heard.append(message)
        if len(self.heard) >= self.waits_for:
            self.has_heard.set()

    async def receive(self) -> bytes | None:
        if self.waits_for:
            await self.has_heard.wait()
        return self.says.pop(0) if self.says else None


class Connection:
    """A client's connection once it was taken: its frames, and what it is sent."""

    def __init__(self, *pieces: bytes, leaves: bool = False) -> None:
        self.pieces = list(pieces)
        self.leaves = leaves
        self.sent = b""
        self.is_closed = False

    async def receive(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if not self.leaves:
            await anyio.sleep_forever()
        return b""

    async def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    @property
    def frames(self) -> list[frames.Frame]:
        """What came after the head of the answer."""
        return list(frames.Reader().feed(self.sent.partition(b"\r\n\r\n")[2]))

    def data(self, stream: int) -> tuple[bytes, bool]:
        """What came by a stream, and whether it was ended."""
        listed = [f for f in self.frames if isinstance(f, frames.Data) and f.stream == stream]
        return b"".join(f.data for f in listed), any(f.is_last for f in listed)


def syn(headers: frames.Headers, stream: int, kind: str, **more: str) -> bytes:
    body = frames.numbers(stream, 0) + b"\0\0" + headers.written({"streamtype": kind, **more})
    return frames.control(frames.SYN_STREAM, body)


def opened(*kinds: str) -> bytes:
    headers = frames.Headers()
    return b"".join(syn(headers, 2 * index + 1, kind) for index, kind in enumerate(kinds))


async def ask(
    api: Any, pod: Make, target: str, connection: Connection, *versions: str, method: str = "POST"
) -> list[dict[str, Any]]:
    """The plain answer, if the connection was not taken."""
    assert (await api.post("/api/v1/nodes", {"metadata": {"name": "n1"}})).status == 201
    assert (await api.post(PODS, pod("p", nodeName="n1"))).status == 201
    scope = api._scope(method, target, {"upgrade": "SPDY/3.1", "connection": "Upgrade"})
    scope["headers"] += [(b"x-stream-protocol-version", each.encode()) for each in versions]
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with anyio.fail_after(5):
        await api.app({**scope, takeover.TAKE: lambda: connection}, None, send)
    return sent


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_command(start: Any, pod: Make, method: str) -> None:
    """Streams become channels: input and its end, both outputs, and the Status by the error stream."""
    agent = Agent(b"\x01out", b"\x02err", b'\x03{"code": 7}', waits_for=3)
    begin = opened("error", "stdin", "stdout", "stderr")
    sent = frames.data(3, b"on") + frames.data(3, b"e") + frames.data(3, b"", is_last=True)
    connection = Connection(begin + sent)
    async with start(node_proxy=agent) as api:
        assert (
            await ask(api, pod, EXEC, connection, "v5.channel.k8s.io", V4, "channel.k8s.io", method=method)
            == []
        )
    head = connection.sent.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    assert head[0] == "http/1.1 101 switching protocols"
    assert {"connection: upgrade", "upgrade: spdy/3.1", f"x-stream-protocol-version: {V4}"} <= set(head)
    assert agent.heard == [b"\x00on", b"\x00e", b"\xff\x00"]
    assert connection.data(5) == (b"out", True)
    assert connection.data(7) == (b"err", True)
    outcome, is_ended = connection.data(1)
    assert json.loads(outcome)["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert is_ended
    assert connection.is_closed


async def test_a_terminal(start: Any, pod: Make) -> None:
    """Has no stream for errors, and one for its size."""
    agent = Agent(b'\x03{"code": 0}', waits_for=1)
    connection = Connection(opened("error", "stdout", "resize") + frames.data(5, b'{"Width":80,"Height":24}'))
    async with start(node_proxy=agent) as api:
        await ask(api, pod, f"{PODS}/p/exec?command=sh&stdout=true&stderr=true&tty=true", connection, V4)
    assert agent.heard == [b'\x04{"Width":80,"Height":24}']
    assert json.loads(connection.data(1)[0])["status"] == "Success"


async def test_a_client_that_goes(start: Any, pod: Make) -> None:
    """Ends it, also before it has opened its streams."""
    for begin in (b"", opened("error"), opened("error", "stdin", "stdout", "stderr"), b"no spdy" * 9):
        connection = Connection(begin, leaves=True)
        async with start(node_proxy=Agent(waits_for=99)) as api:
            await ask(api, pod, EXEC, connection, V4)
        assert connection.is_closed


async def test_a_port(start: Any, pod: Make) -> None:
    """Is the tunnel's conversation without its WebSocket."""
    agent = Agent(b"\x00answer", b"\xff\x00", waits_for=1)
    headers, named = frames.Headers(), {"port": "8080", "requestid": "0"}
    begin = syn(headers, 1, "error", **named) + syn(headers, 3, "data", **named) + frames.data(3, b"ask")
    connection = Connection(begin, frames.control(frames.GOAWAY, frames.numbers(0, 0)))
    connection.pieces.insert(1, b"")  # the client is gone once it was answered
    del connection.pieces[1:]

    async with start(node_proxy=agent) as api, anyio.create_task_group() as tasks:

        async def run() -> None:
            await ask(api, pod, f"{PODS}/p/portforward", connection, "portforward.k8s.io")

        tasks.start_soon(run)
        with anyio.fail_after(5):
            while not connection.data(3)[1]:
                await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert connection.data(3) == (b"answer", True)
    assert b"".join(agent.heard).replace(b"\0", b"") == b"ask"


@pytest.mark.parametrize(
    ("target", "versions", "code", "words"),
    [
        (EXEC, (), 400, "X-Stream-Protocol-Version is required"),
        (
            EXEC,
            ("channel.k8s.io",),
            403,
            "client supports [channel.k8s.io], server accepts [v4.channel.k8s.io]",
        ),
        (f"{PODS}/p/portforward", (V4,), 403, "server accepts [portforward.k8s.io]"),
        (EXEC.replace("/p/", "/none/"), (V4,), 404, 'pods "none" not found'),
        (EXEC, (V4,), 404, "container not found"),
    ],
)
async def test_what_is_refused(  # noqa: PLR0917 - what the table has
    start: Any, pod: Make, target: str, versions: tuple[str, ...], code: int, words: str
) -> None:
    """In plain HTTP; the connection is not taken."""
    connection = Connection()
    async with start(node_proxy=Agent(refusal=errors.NotFound('container not found ("main")'))) as api:
        begin, body = await ask(api, pod, target, connection, *versions)
    assert begin["status"] == code
    assert words in json.loads(body["body"])["message"]
    assert (connection.sent, connection.is_closed) == (b"", False)

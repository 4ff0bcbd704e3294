"""Commands, attached containers and forwarded ports over WebSockets, with a node of the test's own."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import msgspec
import pytest

from ondol.apiserver import sockets
from ondol.apiserver.spdy import frames
from ondol.apiserver.subresources import port_forward
from ondol.base import errors

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"
EXEC = f"{PODS}/p/exec?command=sh&command=-c&stdin=true&stdout=true&stderr=true"
V5, V4, V4_TEXT, V1 = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
)
Make = Callable[..., dict[str, Any]]


class Agent:
    """A node that takes down what it is sent and says what it is told to; at `end` it hangs up."""

    def __init__(self, *says: bytes, refusal: errors.ApiError | None = None) -> None:
        self.says = list(says)
        self.refusal = refusal
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.heard: list[bytes] = []
        self.waits_for = 0
        """How many messages it hears before it says anything."""
        self.is_open = False
        self._news = anyio.Event()

    @contextlib.asynccontextmanager
    async def connect(self, node: str, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[Agent]:
        assert node == "n1"
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((path, list(query)))
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False

    async def send(self, message: bytes) -> None:
        self.heard.append(message)
        self._news.set()

    async def receive(self) -> bytes | None:
        while len(self.heard) < self.waits_for:
            await self._news.wait()
            self._news = anyio.Event()
        return self.says.pop(0) if self.says else None


class Client:
    """One side of a WebSocket: what it sends, in pieces, and what it was sent."""

    def __init__(self, *pieces: bytes | str | tuple[bytes, bool]) -> None:
        self.pieces = list(pieces)
        self.sent: list[dict[str, Any]] = []
        self.leaves = False

    async def open(
        self,
        api: Any,
        target: str,
        *protocols: str,
        user: tuple[str, list[str]] = ("admin", ["system:masters"]),
    ) -> None:
        path, _, query = target.partition("?")
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"api.test")],
            "subprotocols": list(protocols),
            "ondol.identity": {"name": user[0], "groups": user[1]},
        }
        is_begun = False

        async def receive() -> dict[str, Any]:
            nonlocal is_begun
            if not is_begun:
                is_begun = True
                return {"type": "websocket.connect"}
            if self.pieces:
                piece = self.pieces.pop(0)
                data, more = piece if isinstance(piece, tuple) else (piece, False)
                kind = "text" if isinstance(data, str) else "bytes"
                return {"type": "websocket.receive", kind: data, sockets.MORE: more}
            if not self.leaves:
                await anyio.sleep_forever()
            return {"type": "websocket.disconnect", "code": 1005}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        with anyio.fail_after(5):
            await api.app(scope, receive, send)

    @property
    def messages(self) -> list[bytes]:
        """What came after the WebSocket was accepted, as bytes."""
        sent = [message for message in self.sent if message["type"] == "websocket.send"]
        return [m["bytes"] if "bytes" in m else m["text"].encode() for m in sent]

    @property
    def refusal(self) -> dict[str, Any]:
        start, body = self.sent
        assert start["type"] == "websocket.http.response.start"
        document: dict[str, Any] = msgspec.json.decode(body["body"])
        assert document["code"] == start["status"]
        return document


async def _with_pod(api: Any, pod: Make, **spec: Any) -> None:
    assert (await api.post("/api/v1/nodes", {"metadata": {"name": "n1"}})).status == 201
    assert (await api.post(PODS, pod("p", **{"nodeName": "n1", **spec}))).status == 201


async def test_a_command_is_carried_both_ways(start: Any, pod: Make) -> None:
    """Input in pieces of one message, its end, a size; both outputs and the exit code."""
    agent = Agent(b"\x01out", b"\x02err", b'\x03{"code": 7}')
    agent.waits_for = 4
    client = Client((b"\x00on", True), (b"e", False), b"\xff\x00", b'\x04{"Width":80,"Height":24}')
    async with start(node_proxy=agent) as api:
        await _with_pod(api, pod)
        await client.open(api, EXEC, V5, V4)
    ((path, query),) = agent.asked
    assert path.startswith("/exec/default/p/")
    assert [value for name, value in query if name == "command"] == ["sh", "-c"]
    assert {name for name, _ in query} == {"stdin", "stdout", "stderr", "command"}
    assert agent.heard == [b"\x00on", b"\x00e", b"\xff\x00", b'\x04{"Width":80,"Height":24}']
    assert client.sent[0]["subprotocol"] == V5
    *output, outcome = client.messages
    assert output == [b"\x01out", b"\x02err"]
    status = json.loads(outcome[1:])
    assert (outcome[0], status["reason"]) == (3, "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert client.sent[-1] == {"type": "websocket.close", "code": 1000}
    assert not agent.is_open


@pytest.mark.parametrize(
    ("protocol", "message", "expected"),
    [
        (V4, b"\x00hi", [b"\x01x", b'\x03{"metadata": {}, "status": "Success"}']),
        (V4_TEXT, "0" + base64.b64encode(b"hi").decode(), [b"1eA==", b"3"]),
        (V1, b"\x00hi", [b"\x01x"]),
        ("", b"\x00hi", [b"\x01x"]),
        ("base64.channel.k8s.io", "0aGk=", [b"1eA=="]),
    ],
)
async def test_older_protocols(
    start: Any, pod: Make, protocol: str, message: bytes | str, expected: list[bytes]
) -> None:
    """Binary or base64; without versions success is silence."""
    agent = Agent(b"\x01x", b'\x03{"code": 0}')
    agent.waits_for = 1
    client = Client(message)
    async with start(node_proxy=agent) as api:
        await _with_pod(api, pod)
        await client.open(api, EXEC, *([protocol] if protocol else []))
    assert agent.heard == [b"\x00hi"]
    assert client.messages[0] == expected[0]
    assert len(client.messages) == len(expected)
    assert all(m.startswith(e) for m, e in zip(client.messages, expected, strict=True))


async def test_a_client_that_goes_ends_it(start: Any, pod: Make) -> None:
    """However silent the command is; so does one that does not keep to the protocol."""
    for pieces in ((), (b"\xff\x00\x00",), ((b"\x04" + b"x" * (1 << 21), False),)):
        agent = Agent()
        agent.waits_for = 99
        client = Client(*pieces)
        client.leaves = not pieces
        async with start(node_proxy=agent) as api:
            await _with_pod(api, pod)
            await client.open(api, EXEC, V5)
        assert agent.asked
        assert not agent.is_open


async def test_what_cannot_be_spoken_with(start: Any, pod: Make) -> None:
    """Told in plain HTTP before anything is accepted, in Kubernetes' words."""
    refusal = errors.NotFound('container not found ("main")')
    async with start(node_proxy=Agent(refusal=refusal)) as api:
        await _with_pod(api, pod)
        assert (await api.post(PODS, pod("unbound"))).status == 201
        for target, protocols, code, words in (
            (EXEC, (V5,), 404, "container not found"),
            (EXEC, ("v9",), 403, "not supported"),
            (EXEC.replace("/p/", "/none/"), (V5,), 404, 'pods "none" not found'),
            (EXEC.replace("/p/", "/unbound/"), (V5,), 400, "pod unbound does not have a host assigned"),
            (f"{EXEC}&container=x", (V5,), 400, "container x is not valid for pod p"),
            (f"{PODS}/p/exec?stdout=true", (V5,), 400, "at least 1 command"),
            (f"{PODS}/p/exec?command=ls", (V5,), 400, "at least 1 of stdin, stdout, stderr"),
            (f"{PODS}/p/portforward?ports=0", (V4,), 400, "as a port"),
            (f"{PODS}/p/portforward", (V4,), 403, "not supported"),
        ):
            client = Client()
            await client.open(api, target, *protocols)
            assert client.refusal["code"] == code, target
            assert words in client.refusal["message"]
        plain = await api("POST", EXEC)
        assert (plain.status, plain.json["message"]) == (400, "Upgrade request required")


async def test_rights_are_those_of_the_method(start: Any, pod: Make) -> None:
    """A WebSocket is a GET; whoever may read pods alone runs nothing in them, in no namespace."""
    agent = Agent(b'\x03{"code": 0}')
    async with start(node_proxy=agent) as api:
        await _with_pod(api, pod)
        for role, allowed in (("view", False), ("edit", True)):
            binding = {
                "metadata": {"name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": role, "apiGroup": "rbac.authorization.k8s.io"}],
            }
            path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
            assert (await api.post(path, binding)).status == 201
            client = Client()
            await client.open(api, EXEC, V5, user=(role, ["system:authenticated"]))
            if allowed:
                assert client.sent[0]["type"] == "websocket.accept"
            else:
                assert client.refusal["reason"] == "Forbidden"
            elsewhere = Client()
            target = EXEC.replace("/default/", "/kube-system/")
            await elsewhere.open(api, target, V5, user=(role, ["system:authenticated"]))
            assert elsewhere.refusal["reason"] == "Forbidden"
    assert len(agent.asked) == 1


class Outside:
    """Admission of the test's own, which refuses to let anybody connect."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def mutate(self, context: Any, request: Any) -> None:
        """Nothing is completed."""

    async def validate(self, context: Any, request: Any) -> None:
        if request.operation == "connect" and context.user.name == "admin":
            self.requests.append(request)
            raise errors.Forbidden("no shells here")


async def test_admission_is_asked(start: Any, pod: Make) -> None:
    """With the options as the object, for each of the three."""
    outside = Outside()
    async with start(node_proxy=Agent(), admission=outside) as api:
        await _with_pod(api, pod)
        for target in (EXEC, f"{PODS}/p/attach", f"{PODS}/p/portforward?ports=80"):
            client = Client()
            await client.open(api, target, V4)
            assert client.refusal["message"] == "no shells here"
    kinds = [request.new["kind"] for request in outside.requests]
    assert kinds == ["PodExecOptions", "PodAttachOptions", "PodPortForwardOptions"]
    assert outside.requests[0].new["command"] == ["sh", "-c"]


async def test_a_port_has_two_channels(start: Any, pod: Make) -> None:
    """Both begin with its number; what the pod says comes by the first."""
    agent = Agent(b"\x00answer", b"\xff\x00")
    agent.waits_for = 1
    client = Client(b"\x00ask")
    async with start(node_proxy=agent) as api:
        await _with_pod(api, pod)
        await client.open(api, f"{PODS}/p/portforward?ports=8080", V4)
    number = struct.pack("<H", 8080)
    assert client.messages == [b"\x00" + number, b"\x01" + number, b"\x00answer"]
    assert agent.heard[0] == b"\x00ask"
    assert agent.asked[0][1] == [("port", "8080")]


def _syn(headers: frames.Headers, stream: int, **named: str) -> bytes:
    body = frames.numbers(stream, 0) + b"\0\0" + headers.written(named)
    return frames.control(frames.SYN_STREAM, body)


async def test_a_port_through_a_tunnel(start: Any, pod: Make) -> None:
    """As kubectl speaks it: an error and a data stream each; both are answered and ended."""
    agent = Agent(b"\x00answer", b"\xff\x00")
    agent.waits_for = 1
    headers = frames.Headers()
    named = {"port": "8080", "requestid": "0"}
    opening = _syn(headers, 1, streamtype="error", **named) + frames.data(1, b"", is_last=True)
    opening += _syn(headers, 3, streamtype="data", **named) + frames.data(3, b"ask")
    # In pieces of any size, however frames are cut.
    client = Client(*(opening[at : at + 7] for at in range(0, len(opening), 7)))
    async with start(node_proxy=agent) as api:
        await _with_pod(api, pod)
        with anyio.move_on_after(1):
            await client.open(api, f"{PODS}/p/portforward", port_forward.TUNNEL)
    assert agent.asked[0][1] == [("port", "8080")]
    assert b"".join(agent.heard).replace(b"\0", b"") == b"ask"
    received = list(frames.Reader().feed(b"".join(client.messages)))
    replies = [f.stream for f in received if isinstance(f, frames.Control) and f.kind == frames.SYN_REPLY]
    assert replies == [1, 3]
    assert [f for f in received if isinstance(f, frames.Data)] == [
        frames.Data(3, b"answer", is_last=False),
        frames.Data(3, b"", is_last=True),
        frames.Data(1, b"", is_last=True),
    ]


async def test_a_port_that_nobody_listens_at(start: Any, pod: Make) -> None:
    """The error stream says why; the tunnel stays open for the next."""
    headers = frames.Headers()
    named = {"port": "9", "requestid": "0"}
    client = Client(
        _syn(headers, 1, streamtype="error", **named) + _syn(headers, 3, streamtype="data", **named)
    )
    refusal = errors.BadRequest("connecting to port 9: Connection refused")
    async with start(node_proxy=Agent(refusal=refusal)) as api:
        await _with_pod(api, pod)
        with anyio.move_on_after(1):
            await client.open(api, f"{PODS}/p/portforward", port_forward.TUNNEL)
    received = list(frames.Reader().feed(b"".join(client.messages)))
    texts = [f.data for f in received if isinstance(f, frames.Data) and f.stream == 1]
    assert b"Connection refused" in texts[0]

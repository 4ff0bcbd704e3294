"""Logs and watches over WebSockets, as kube-apiserver sends them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"
CMS = "/api/v1/namespaces/default/configmaps"
BASE64 = "base64.binary.k8s.io"
Make = Callable[..., dict[str, Any]]


class Lines:
    """A node that has a log of two lines."""

    status = 200

    @asynccontextmanager
    async def get(self, node: str, path: str, query: Mapping[str, str]) -> AsyncIterator[Lines]:
        del node, path, query
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in (b"one\n", b"tw\xff\n"):
            yield chunk


async def _opened(
    api: Any, target: str, *protocols: str, hang_up: bool = False, headers: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """What the application sends to a client that opens a WebSocket and, if asked, hangs up at once."""
    path, _, query = target.partition("?")
    named = {"host": "api.test", **(headers or {})}
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "subprotocols": list(protocols),
        "ondol.identity": {"name": "admin", "groups": ["system:masters"]},
    }
    sent: list[dict[str, Any]] = []
    received = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "ignored"}]

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop(0)
        if not hang_up:
            await anyio.sleep_forever()
        await anyio.wait_all_tasks_blocked()
        return {"type": "websocket.disconnect", "code": 1005}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with anyio.fail_after(5):
        await api.app(scope, receive, send)
    return sent


async def _with_logs(api: Any, pod: Make) -> None:
    ports = {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}
    addresses = [{"type": "InternalIP", "address": "192.0.2.9"}]
    node = {"metadata": {"name": "n1"}, "status": {**ports, "addresses": addresses}}
    assert (await api.post("/api/v1/nodes", node)).status == 201
    assert (await api.post(PODS, pod("p", nodeName="n1"))).status == 201


@pytest.mark.parametrize("protocol", ["", "binary.k8s.io", BASE64])
async def test_a_log_is_sent_in_messages(start: Any, pod: Make, protocol: str) -> None:
    """An empty one first, then what the node sends: binary, or in base64 for whoever reads text only."""
    async with start(node_proxy=Lines()) as api:
        await _with_logs(api, pod)
        sent = await _opened(api, f"{PODS}/p/log", *([protocol] if protocol else []))
    assert sent[0]["type"] == "websocket.accept"
    assert sent[0]["subprotocol"] == (protocol or None)
    assert sent[-1] == {"type": "websocket.close", "code": 1000}
    pieces = [message.get("bytes", message.get("text")) for message in sent[1:-1]]
    plain = [b"", b"one\n", b"tw\xff\n"]
    assert pieces == ([base64.b64encode(p).decode() for p in plain] if protocol == BASE64 else plain)


async def test_what_cannot_be_answered_is_refused_before_it_is_accepted(start: Any, pod: Make) -> None:
    """In plain HTTP with a Status, so that the client learns why: no pod, no rights, no such protocol."""
    async with start(node_proxy=Lines()) as api:
        await _with_logs(api, pod)
        for target, protocols, code in (
            (f"{PODS}/none/log", (), 404),
            (f"{PODS}/p/log", ("v4.channel.k8s.io",), 403),
            (f"{PODS}/p/log", ("base64url.bearer.authorization.k8s.io.%%",), 401),
        ):
            start_message, body = await _opened(api, target, *protocols)
            assert (start_message["type"], start_message["status"]) == ("websocket.http.response.start", code)
            assert msgspec.json.decode(body["body"])["code"] == code
        plain, body = await _opened(api, f"{PODS}/p")
        assert (plain["status"], msgspec.json.decode(body["body"])["kind"]) == (200, "Pod")


async def test_a_watch_is_a_message_an_event(api: Any, config_map: Make) -> None:
    """The line of each event as text; the client ends it by going away."""
    for name in ("a", "b"):
        await api.post(CMS, config_map(name))
    sent = await _opened(api, f"{CMS}?watch=true&fieldSelector=metadata.name!=kube-root-ca.crt", hang_up=True)
    assert sent[0]["type"] == "websocket.accept"
    events = [msgspec.json.decode(message["text"]) for message in sent if message["type"] == "websocket.send"]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
    ]


@pytest.mark.parametrize(
    ("headers", "protocols", "code"),
    [
        ({"origin": "https://evil.test"}, (), 403),
        ({"origin": "null"}, (), 403),
        ({"origin": "file://"}, (), 403),
        ({"origin": ""}, (), 403),
        ({"origin": "https://api.test"}, (), 404),
        ({}, (), 404),
        ({"origin": "http://localhost", "user-agent": "Mozilla/5.0 (X11)"}, (), 403),
        ({"origin": "http://localhost:3000"}, (), 403),
        ({"origin": "http://localhost", "user-agent": "e2e.test/v1.36.0"}, (), 404),
        ({"origin": "http://localhost"}, (), 404),
        ({"origin": "https://evil.test", "authorization": "Bearer t"}, (), 404),
        ({"origin": "https://evil.test"}, ("base64url.bearer.authorization.k8s.io.dA", "x"), 404),
    ],
)
async def test_pages_of_others_use_nothing_their_browser_holds(
    api: Any, headers: dict[str, str], protocols: tuple[str, ...], code: int
) -> None:
    """A client certificate is sent along unasked; only a token that the page itself has counts."""
    refused = await _opened(api, f"{PODS}/none/log", *protocols, headers=headers)
    assert refused[0]["status"] == code

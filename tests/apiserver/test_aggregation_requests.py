"""Requests that another API server answers: what it is sent, what the client gets, and what never passes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from tests.apiserver import elsewhere
from tests.apiserver.elsewhere import ROOT, Answer, Elsewhere

from ondol import apiserver
from ondol.apiserver import takeover
from ondol.apiserver.aggregation import requests
from ondol.apiserver.auth import request_headers
from ondol.apiserver.auth.identity import User
from ondol.base import errors

pytestmark = pytest.mark.anyio

FLUNDERS = f"{ROOT}/namespaces/default/flunders"


@contextlib.asynccontextmanager
async def _registered(start: Callable[..., Any], **spec: Any) -> AsyncIterator[tuple[Any, Elsewhere]]:
    other = Elsewhere()
    async with start(forwarder=other) as api:
        await elsewhere.register(api, **spec)
        yield api, other


async def test_a_request_is_passed_on_in_its_callers_name(start: Callable[..., Any]) -> None:
    """Path, query, body and answer as they are; who asks is told, and what the client says of that is not."""
    async with _registered(start, insecureSkipTLSVerify=False, caBundle="Y2E=") as (api, other):
        other.says[FLUNDERS] = Answer(
            {"kind": "FlunderList"}, 201, [(b"x-own", b"1"), (b"audit-id", b"theirs")]
        )
        headers = {
            "X-Remote-User": "root",
            "X-Remote-Group": "system:masters",
            "X-Remote-Extra-Scopes": "all",
            "Authorization": "Basic secret",
            "Connection": "x-remote-user, x-hop",
            "X-Hop": "1",
            "X-Mine": "kept",
            "Content-Length": "18",
        }
        target = f"{FLUNDERS}?dryRun=All&fieldManager=a%20b"
        answer = await api.as_("ann", "system:masters", "dev")("POST", target, {"kind": "Flunder"}, headers)
        assert (answer.status, answer.json, answer.headers["x-own"]) == (201, {"kind": "FlunderList"}, "1")
        to, asked = other.asked[-1]
        assert (to.scheme, to.host, to.port) == ("https", "10.1.0.5", 8443)
        assert to.trust == ("wardle.default.svc", b"ca", True)
        assert (asked.method, asked.target, other.bodies[-1]) == ("POST", target, b'{"kind":"Flunder"}')
        assert other.header("x-remote-user") == [b"ann"]
        assert other.header("x-remote-group") == [b"system:masters", b"dev", b"system:authenticated"]
        assert other.header("x-mine") == [b"kept"]
        assert other.header("host") == [b"wardle.default.svc"]
        assert answer.headers["audit-id"].encode() == other.header("audit-id")[0] != b"theirs"
        for name in ("x-remote-extra-scopes", "authorization", "connection", "x-hop"):
            assert other.header(name) == []


async def test_only_what_is_authorized_here_gets_there(start: Callable[..., Any]) -> None:
    """RBAC comes first, and knows the resource; its wildcards reach it."""
    async with _registered(start) as (api, other):
        before = len(other.asked)
        refused = await api.as_("ann").get(FLUNDERS)
        assert refused.status == 403
        assert f'cannot list resource "flunders" in API group "{elsewhere.GROUP}"' in refused.json["message"]
        assert len(other.asked) == before
        rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["list"]}]
        kinds = "/apis/rbac.authorization.k8s.io/v1/clusterrole"
        await api.post(f"{kinds}s", {"metadata": {"name": "r"}, "rules": rules})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
        subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]
        binding = {"metadata": {"name": "r"}, "roleRef": reference, "subjects": subjects}
        await api.post(f"{kinds}bindings", binding)
        assert (await api.as_("ann").get(FLUNDERS)).status == 404  # the other server's own answer
        assert other.header("x-remote-user") == [b"ann"]


@pytest.mark.parametrize(
    "path",
    [
        f"{ROOT}/../../../api/v1/secrets",
        f"{ROOT}/./flunders",
        f"{ROOT}/%2e%2e/flunders",
        f"{ROOT}//flunders",
        f"/{ROOT}/flunders",
        f"{ROOT}/flunders//",
        f"{ROOT}/flunders%2F..%2Fx",
    ],
)
async def test_a_path_that_could_be_read_in_two_ways_goes_nowhere(
    start: Callable[..., Any], path: str
) -> None:
    """What was authorized is what the other server would serve, or nothing."""
    async with _registered(start) as (api, other):
        before = len(other.asked)
        assert (await api.get(path)).status == 404
        assert len(other.asked) == before


async def test_an_encoded_path_is_passed_on_as_it_was_authorized(start: Callable[..., Any]) -> None:
    """A slash that was encoded is one to both sides."""
    async with _registered(start) as (api, other):
        await api.get(f"{ROOT}/flunders%2Fa%20b")
        assert other.asked[-1][1].target == f"{ROOT}/flunders/a%20b"


async def test_redirects_are_not_passed_on(start: Callable[..., Any]) -> None:
    """Nor followed."""
    async with _registered(start) as (api, other):
        other.says[FLUNDERS] = Answer(b"", 302, [(b"location", b"https://elsewhere.example/")])
        answer = await api.get(FLUNDERS)
        assert (answer.status, answer.headers.get("location")) == (502, None)
        assert answer.body == b"the backend attempted to redirect this request, which is not permitted"


async def test_who_does_not_answer_is_said_in_kubernetes_words(start: Callable[..., Any]) -> None:
    """As plain text, of which clients make their own error; first of one that is tried, then of none."""
    async with _registered(start) as (api, other):
        other.fails = OSError("connect: connection refused")
        answer = await api.get(FLUNDERS)
        words = b"error trying to reach service: dial tcp 10.1.0.5:8443: connect: connection refused"
        assert (answer.status, answer.body) == (503, words)
        await api.clock.advance(40)
        await api.settle()
        answer = await api.get(FLUNDERS)
        assert (answer.status, answer.body) == (503, b"service unavailable\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_server_that_hangs_costs_a_request_its_time_and_no_more(
    start: Callable[..., Any], method: str
) -> None:
    """The place that it took is free again."""
    config = apiserver.ApiConfig(reads_in_flight_max=2, writes_in_flight_max=2)
    other = Elsewhere()
    async with start(forwarder=other, config=config) as api:
        await elsewhere.register(api)
        other.hangs_at = FLUNDERS
        for _ in range(3):
            answer = await api.overdue(api.as_("ann", "system:masters")(method, FLUNDERS, {}), seconds=61)
            assert (answer.status, answer.json["reason"]) == (504, "Timeout")


async def test_an_answer_that_breaks_is_cut(start: Callable[..., Any]) -> None:
    """An end would make a whole of what is a part."""
    async with _registered(start) as (api, other):
        other.says[FLUNDERS] = Answer(b"half")
        other.says[FLUNDERS].pieces = [b"half", OSError("the connection broke")]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await api.app(api._scope("GET", FLUNDERS, {}), receive, send)
        assert [message.get("body") for message in sent[1:]] == [b"half"]
        assert sent[-1]["more_body"]


async def test_watches_come_piece_by_piece(start: Callable[..., Any]) -> None:
    """And outlast what another request may take."""
    async with _registered(start) as (api, other):
        stream = other.says[f"{FLUNDERS}?watch=1"] = Answer(b"")
        stream.headers = []
        stream.pieces = [b'{"type":"ADDED"}\n', None]
        async with api.watch(f"{FLUNDERS}?watch=1") as watching:
            assert await watching.next() == {"type": "ADDED"}
            await api.clock.advance(120)
            assert await watching.quiet()


class _Client:
    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = False

    async def receive(self) -> bytes:
        await anyio.sleep_forever()
        return b""

    async def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True


class _Server:
    def __init__(self) -> None:
        self.pieces = [b"hello", b""]

    async def receive(self) -> bytes:
        return self.pieces.pop(0)

    async def send(self, data: bytes) -> None:
        raise AssertionError(data)


async def test_upgrades_become_tunnels(start: Callable[..., Any]) -> None:
    """Whatever the protocol; nothing that the client names as a matter between neighbours is taken away."""
    async with _registered(start) as (api, other):
        other.upgraded = lambda: (101, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", _Server())
        client = _Client()
        headers = {"connection": "upgrade, x-remote-user", "upgrade": "SPDY/3.1", "x-remote-user": "root"}
        scope = {**api._scope("POST", f"{FLUNDERS}/a/exec", headers), takeover.TAKE: lambda: client}

        async def silent(*_: Any) -> Any:
            await anyio.sleep_forever()

        await api.app(scope, silent, silent)
        assert client.sent == b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello"
        assert client.is_closed
        assert other.header("x-remote-user") == [b"admin"]
        assert other.header("connection") == [b"Upgrade"]
        assert other.header("upgrade") == [b"SPDY/3.1"]


async def test_the_groups_that_hold_all_together_stay(start: Callable[..., Any]) -> None:
    """Nobody can take the core group or that of APIServices away."""
    async with _registered(start) as (api, other):
        await api.post(elsewhere.SERVICES, elsewhere.api_service("apiregistration.k8s.io"))
        live = (await api.get(f"{elsewhere.SERVICES}/v1.")).json
        spec = {**live["spec"], "service": {"namespace": "default", "name": "wardle"}}
        replaced = await api.put(f"{elsewhere.SERVICES}/v1.", {**live, "spec": spec})
        assert replaced.status == 200
        await api.settle()
        before = len(other.asked)
        assert (await api.get("/api/v1/namespaces/default")).json["kind"] == "Namespace"
        assert (await api.get(f"{elsewhere.SERVICES}/v1.{elsewhere.GROUP}")).status == 200
        assert len(other.asked) == before


def test_endpoints_of_the_platform_itself_are_never_asked() -> None:
    """Even where they have got into the store: what is asked is asked in the name of this server."""
    config = apiserver.ApiConfig(own_ports=frozenset({6443}), advertise_address="192.0.2.1")
    own = [("192.0.2.1", 6443), ("10.96.0.1", 443), ("169.254.1.1", 80), ("127.0.0.1", 80), ("0.0.0.0", 80)]
    others = [("10.1.0.5", 443), ("192.0.2.1", 8443)]
    assert requests.reachable(config, [*own, ("::1", 1), ("name.example", 1), *others]) == others


def test_users_in_headers_are_read_as_they_were_written() -> None:
    """Whatever is in their names."""
    user = User("홍길동", ("a b", "c"), "u-1", {"example.org/scope%": ("x", "y"), "k": ("",)})
    assert request_headers.Reader().user(request_headers.of(user)) == user


def test_a_name_that_would_be_another_header_is_refused() -> None:
    """None gets into the head of a request."""
    with pytest.raises(errors.BadRequest):
        request_headers.of(User("ann\r\nX-Remote-Group: system:masters"))

"""Policies hold where a call arrives, whoever makes it: pods of the mesh, others, and the host."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import anyio
import anyio.to_thread
from tests.mesh import live as real
from tests.mesh import traffic
from tests.mesh.guarded import Mesh, guarding
from tests.mesh.live import Live

from ondol.api import conditions, resources
from ondol.contracts import mesh

pytestmark = real.MARKS
ALLOW_CLIENT = {
    "selector": {"matchLabels": {"app": "web"}},
    "action": "ALLOW",
    "rules": [
        {
            "from": [{"source": {"principals": ["cluster.local/ns/default/sa/client"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/ok*"]}}],
        }
    ],
}


async def two_callers(guarded: Mesh, *ports: tuple[str, int]) -> None:
    """A server, and two pods that call as accounts of their own names."""
    await guarded.server("web", *(ports or (("http", 8001),)))
    for name in ("client", "other"):
        await guarded.account(name)
        await guarded.live.pod(name, account=name)
    await guarded.live.programmed("web", "client", "other")


def call_directly(address: str, port: int, path: str = "/ok") -> int:
    """The status of a call from the host; 0 if it is not answered."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


async def from_the_host(live: Live, name: str, port: int = 8001, path: str = "/ok") -> int:
    return await anyio.to_thread.run_sync(call_directly, live.addresses[name], port, path)


async def test_a_policy_holds_for_whoever_calls(live: Live) -> None:
    """Who is allowed comes in, by its identity; others of the mesh and the host do not."""
    async with guarding(live) as guarded:
        await two_callers(guarded)
        request: dict[str, Any] = {"host": "web:8001", "port": 8001, "path": "/ok"}
        assert await guarded.statuses("other", request) == [200]
        assert await from_the_host(live, "web") == 200
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", ALLOW_CLIENT)
        await guarded.turned("web")
        assert await guarded.statuses("client", request, {**request, "path": "/no"}) == [200, 403]
        assert await guarded.statuses("other", request) == [403]
        assert await from_the_host(live, "web") == 403


async def test_nobody_is_believed_who_says_who_he_is(live: Live) -> None:
    """Headers by which proxies tell of callers and ways: from a pod, and from outside of the mesh."""
    identity = "spiffe://cluster.local/ns/default/sa/client"
    forged = {
        "x-forwarded-client-cert": f"By={identity};URI={identity}",
        "x-forwarded-for": "127.0.0.1",
        "x-envoy-original-path": "/ok",
        "x-envoy-original-dst-host": "127.0.0.1:1",
        "x-envoy-external-address": "127.0.0.1",
        "x-envoy-internal": "true",
        "x-original-url": "/ok",
    }
    async with guarding(live) as guarded:
        await two_callers(guarded)
        local = {"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}
        open_path = {"to": [{"operation": {"paths": ["/told"]}}]}
        rules = [of_client(), local, open_path]
        spec = {"selector": labelled("web"), "rules": rules}
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", spec)
        await guarded.turned("web")
        request = {"host": "web:8001", "port": 8001, "path": "/ok", "headers": forged}
        outside = {**request, "address": live.addresses["web"]}
        refused, answered = await live.call("other", request, {**request, "path": "/told"})
        assert (refused["status"], answered["status"]) == (403, 200)
        certificate = answered["seen"]["headers"]["x-forwarded-client-cert"]
        assert "sa/other" in certificate
        assert identity not in certificate
        assert (await anyio.to_thread.run_sync(traffic.call, outside))["status"] == 403
        answered = await anyio.to_thread.run_sync(traffic.call, {**outside, "path": "/told"})
        assert "x-forwarded-client-cert" not in answered["seen"]["headers"]


async def test_strict_takes_nothing_in_the_open(live: Live) -> None:
    """Pods of the mesh come in with certificates, the host is refused; DISABLE is as it was."""
    async with guarding(live) as guarded:
        await two_callers(guarded, ("http", 8001), ("http-open", 8002))
        spec = {
            "selector": {"matchLabels": {"app": "web"}},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"8002": {"mode": "DISABLE"}},
        }
        await guarded.rule(mesh.PEER_AUTHENTICATION, "web", spec)
        await guarded.turned("web")
        for port in (8001, 8002):
            (answer,) = await live.call("client", {"host": f"web:{port}", "port": port, "path": "/ok"})
            assert answer["status"] == 200, answer
            header = answer["seen"]["headers"].get("x-forwarded-client-cert", "")
            assert ("URI=spiffe://cluster.local/ns/default/sa/client" in header) is (port == 8001)
        assert await from_the_host(live, "web") == 0
        assert await from_the_host(live, "web", 8002) == 200


async def test_ports_of_every_protocol_are_carried_with_certificates(live: Live) -> None:
    """Declared or not, HTTP or not, servers that speak first among them; who may not is kept out of all."""
    async with guarding(live) as guarded:
        ports = (("http", 8001), ("odd", 8002), ("tcp-greet", 9000), ("grpc", 9100), ("tcp-echo", 9200))
        await two_callers(guarded, *ports)
        namespaces = [{"source": {"principals": ["cluster.local/ns/default/sa/client"]}}]
        await guarded.rule(mesh.PEER_AUTHENTICATION, "strict", {"mtls": {"mode": "STRICT"}})
        await guarded.rule(
            mesh.AUTHORIZATION_POLICY, "web", {"selector": labelled("web"), "rules": [{"from": namespaces}]}
        )
        await guarded.turned("web", "client", "other")
        address = live.addresses["web"]
        calls: list[dict[str, Any]] = [
            {"host": "web:8002", "port": 8002},
            {"host": "web:8001", "port": 8001, "websocket": True},
            {"host": "web:9100", "port": 9100, "grpc": True},
        ]
        odd, switched, spoken = await live.call("client", *calls)
        assert odd["status"] == 200
        assert "x-forwarded-client-cert" in odd["seen"]["headers"]
        assert (switched["status"], switched["text"]) == (101, "HELLO")
        assert spoken["text"] == "HELLO"
        assert await guarded.statuses("other", calls[0]) == [403]
        service = await guarded.cluster_address("web")
        greet, echo = await live.call(
            "client",
            {"address": service, "port": 9000, "raw": True},
            {"address": service, "port": 9200, "end_after_s": 0.1},
        )
        assert greet["text"].startswith("hello from")
        assert echo["text"] == "hello END"
        echo_refused = {"address": service, "port": 9200, "end_after_s": 0.1}
        (refused,) = await live.call("other", echo_refused)
        assert not refused.get("text"), refused
        for port in (9000, 9200):
            assert await anyio.to_thread.run_sync(speaks_in_the_open, address, port) == b""


REQUEST = "GET /ok HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"
EVASIONS: dict[str, dict[str, Any]] = {
    "asked": {"pieces": [REQUEST]},
    "silence first": {"pieces": [REQUEST], "pause_s": 0.3},
    "in pieces": {"pieces": [REQUEST[:2], REQUEST[2:9], REQUEST[9:]], "pause_s": 0.3},
    "a line of nothing first": {"pieces": ["\r\n" + REQUEST]},
    "HTTP/0.9": {"pieces": ["GET /ok\r\n"]},
    "HTTP/1.0": {"pieces": ["GET /ok HTTP/1.0\r\n\r\n"]},
    "HTTP/9.9": {"pieces": ["GET /ok HTTP/9.9\r\n\r\n"]},
    "small letters": {"pieces": [REQUEST.replace("GET", "get")]},
    "another method": {"pieces": [REQUEST.replace("GET", "BREW")]},
    "CONNECT": {"pieces": ["CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n", REQUEST], "pause_s": 0.1},
    "websocket": {"pieces": [REQUEST.replace("close", "upgrade\r\nupgrade: websocket") + REQUEST]},
    "h2c": {
        "pieces": [REQUEST.replace("close", "upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: ")]
    },
    "HTTP/2": {"pieces": ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"]},
    "HTTP/2 in pieces": {
        "pieces": ["PRI * HT", "TP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\4\0\0\0\0\0"],
        "pause_s": 0.3,
    },
    "HTTP/2 that is not": {"pieces": ["PRI * HTTP/2.0\r\n\r\n" + REQUEST]},
    "a hello of TLS that is not": {"pieces": ["\x16\x03\x01\x00\x05" + REQUEST]},
}
"""Ways to have a request taken for something else; none of them may be answered by the application."""


async def test_no_request_passes_by_what_is_asked_of_requests(live: Live) -> None:
    """On a port of which nothing is declared: slowly, in pieces, or as what may be no HTTP at all.

    A server that speaks first goes on there for whoever is let in, and is not heard by others.
    """
    async with guarding(live) as guarded:
        await two_callers(guarded, ("odd", 8002), ("odd-greet", 9000), ("http", 8001))
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", {"rules": [of_client()]})
        await guarded.turned("web")
        service, address = await guarded.cluster_address("web"), live.addresses["web"]
        greet = {"address": service, "port": 9000, "raw": True}
        for caller, is_heard in (("client", True), ("other", False)):
            (answer,) = await live.call(caller, greet)
            assert answer.get("text", "").startswith("hello") is is_heard, caller
        assert await anyio.to_thread.run_sync(heard_here, address) == b""
        local = await anyio.to_thread.run_sync(address_towards, address)
        rules = [of_client(), {"from": [{"source": {"ipBlocks": [f"{local}/30"]}}]}]
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", {"rules": rules})
        assert (await anyio.to_thread.run_sync(heard_here, address)).startswith(b"hello")
        late = {"address": service, "port": 8002, **EVASIONS["silence first"]}
        assert '"port": 8002' in (await live.call("client", late))[0]["text"]
        token = {"issuer": "me", "jwksUri": "https://keys.invalid/k", "presence": "REQUIRED"}
        await guarded.rule(mesh.REQUEST_AUTHENTICATION, "web", {"jwtRules": [token]})
        await until_refused(live, {"address": service, "port": 8001, "host": "web:8001", "path": "/ok"})
        for port in (8002, 8001):
            (answer,) = await live.call("client", evasions(service, port))
            assert not reached(answer), port
        await guarded.live.client.delete(mesh.AUTHORIZATION_POLICY, "web", "default")
        assert not reached(await anyio.to_thread.run_sync(traffic.call, evasions(address, 8002)))


def evasions(address: str, port: int) -> dict[str, Any]:
    return {"together": [{"address": address, "port": port, **each} for each in EVASIONS.values()]}


def reached(answer: dict[str, Any]) -> dict[str, str]:
    """What the application answered, by the way in which it was asked."""
    texts = zip(EVASIONS, (each.get("text", "") for each in answer["answers"]), strict=True)
    return {name: text for name, text in texts if '"port"' in text}


def heard_here(address: str) -> bytes:
    """What the host hears of the server that speaks first; nothing if it is refused."""
    try:
        with socket.create_connection((address, 9000), timeout=5) as raw:
            return raw.recv(100)
    except OSError:
        return b""


def address_towards(address: str) -> str:
    """Of the host, as who is called sees it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def of_client() -> dict[str, Any]:
    return {"from": [{"source": {"principals": ["cluster.local/ns/default/sa/client"]}}]}


async def until_refused(live: Live, request: dict[str, Any]) -> None:
    """Wait until requests of the client without a token are."""

    async def is_refused() -> bool:
        return (await live.statuses("client", request)) == [401]

    await live.world.eventually(is_refused, why="a token to be asked for")


async def test_another_policy_holds_for_connections_that_are_there(live: Live) -> None:
    """The next request on a kept connection is asked about by the policy of now; none was cut for it."""
    async with guarding(live) as guarded:
        await two_callers(guarded)
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", {"selector": labelled("web"), "rules": [{}]})
        await guarded.turned("web")
        connection = http.client.HTTPConnection(live.addresses["web"], 8001, timeout=5)

        def ask() -> int:
            connection.request("GET", "/ok")
            response = connection.getresponse()
            response.read()
            return response.status

        assert await anyio.to_thread.run_sync(ask) == 200
        sock = connection.sock
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", {"selector": labelled("web")})
        assert await anyio.to_thread.run_sync(ask) == 403
        assert connection.sock is sock
        await guarded.live.client.delete(mesh.AUTHORIZATION_POLICY, "web", "default")
        while await anyio.to_thread.run_sync(ask) != 200:  # noqa: ASYNC110 - what is waited for is in the proxy
            await anyio.sleep(0.02)
        connection.close()


async def test_no_request_is_lost_when_pods_that_run_are_guarded(live: Live) -> None:
    """Calls go on while the first policies come, and ask for certificates that calls did not have."""
    async with guarding(live) as guarded:
        await two_callers(guarded)
        request = {"host": "web:8001", "port": 8001, "path": "/ok"}
        answers: list[int] = []

        async def call_on() -> None:
            answers.extend(await guarded.statuses("client", *[request] * 600))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call_on)
            await anyio.sleep(0.3)
            await guarded.rule(mesh.PEER_AUTHENTICATION, "strict", {"mtls": {"mode": "STRICT"}})
            await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", ALLOW_CLIENT)
            await guarded.turned("web")
        assert set(answers) == {200}, answers
        assert await guarded.statuses("other", request) == [403]
        assert await from_the_host(live, "web") == 0


async def test_a_policy_says_where_it_is_not_in_force(live: Live) -> None:
    """A pod that runs is open before its node has turned its calls: its policy is not Programmed."""
    started = Mesh(live)
    await two_callers(started)
    for name in live.pods:
        running = {"status": {"phase": "Running"}}
        await live.client.patch(resources.POD, name, "default", patch=running, subresource="status")
    await live.rule(mesh.AUTHORIZATION_POLICY, "web", {"selector": labelled("web")}, "False")
    assert await from_the_host(live, "web") == 200
    policy = await live.client.get(mesh.AUTHORIZATION_POLICY, "web", "default")
    assert (conditions.get(policy, mesh.PROGRAMMED) or {})["reason"] == "ArrivalsNotTurned"
    started.close()
    async with guarding(live) as guarded:
        await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", {"selector": labelled("web")})


def labelled(name: str) -> dict[str, Any]:
    return {"matchLabels": {"app": name}}


def speaks_in_the_open(address: str, port: int) -> bytes:
    """What a server says to a connection without TLS; nothing if it ends."""
    try:
        with socket.create_connection((address, port), timeout=5) as raw:
            raw.sendall(b"hello")
            return raw.recv(100)
    except OSError:
        return b""

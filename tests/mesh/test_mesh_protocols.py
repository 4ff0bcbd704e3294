"""What passes the real proxy: bytes, HTTP of all versions, gRPC, and what may not pass."""

from __future__ import annotations

import uuid

import anyio
import anyio.to_thread
import pytest
from tests.mesh import live as real
from tests.mesh.live import Live, run, split, web

from ondol.api import objects
from ondol.contracts import mesh

pytestmark = real.MARKS


async def test_servers_that_speak_first_are_not_kept_waiting(live: Live) -> None:
    """On a port declared tcp the greeting comes at once; on an undeclared one, soon."""
    await live.pod("client")
    mail = await live.service("mail", port=("tcp-mail", 2500), to={"mail": 9000})
    odd = await live.service("odd", port=("odd", 2600), to={"odd": 9000})
    await live.programmed("client")
    addresses = [objects.spec(service)["clusterIP"] for service in (mail, odd)]
    declared = {"raw": True, "address": addresses[0], "port": 2500}
    undeclared = {"raw": True, "address": addresses[1], "port": 2600}
    answers = await live.call("client", *[declared] * 4, *[undeclared] * 4)
    assert [answer["text"] for answer in answers] == ["hello from the server\n"] * 8
    # A busy machine may keep one waiting, but the proxy would keep them all.
    took = [answer["took_s"] for answer in answers]
    assert min(took[:4]) < 0.09 < min(took[4:])


async def test_a_client_may_end_its_side_first(live: Live) -> None:
    """The server's last words reach who said all: at once where the port is declared or no service's."""
    await live.pod("client")
    tcp = await live.service("tcp", port=("tcp-echo", 2700), to={"tcp": 9200})
    odd = await live.service("odd", port=("odd", 2701), to={"odd": 9200})
    await live.programmed("client")
    declared, undeclared = (objects.spec(service)["clusterIP"] for service in (tcp, odd))
    answers = await live.call(
        "client",
        {"end_after_s": 0, "address": declared, "port": 2700},
        {"end_after_s": 0, "address": live.servers.address, "port": 9200},
        {"end_after_s": 0.5, "address": undeclared, "port": 2701},
    )
    assert [answer.get("text") for answer in answers] == ["hello END"] * 3


async def test_grpc_and_websockets(live: Live) -> None:
    """HTTP/2 without TLS and upgraded connections are carried, and follow routes."""
    await web(live)
    await live.service("api", port=("grpc", 80), to={"api": 9100})
    await live.service("odd", port=("odd", 2600), to={"odd": 9100})
    spec = {"hosts": ["web"], "http": [split(("v2", 0), match=[{"uri": {"prefix": "/ws"}}])]}
    await live.rule(mesh.VIRTUAL_SERVICE, "web", spec)
    answers = await live.call(
        "client",
        {"grpc": True, "host": "api"},
        {"grpc": True, "host": "odd", "port": 2600},
        {"websocket": True},
    )
    assert [answer["text"] for answer in answers] == ["HELLO"] * 3


async def test_unknown_destinations_and_empty_services(live: Live) -> None:
    """What is no service is reached as it was dialled; a service without endpoints answers 503 at once."""
    await live.pod("client")
    await live.service("empty", to={})
    await live.programmed("client")
    direct = {"address": live.servers.address, "port": 8001, "host": "whoever.example"}
    direct, empty = await live.call("client", direct, {"host": "empty"})
    assert direct["status"] == 200
    assert empty["status"] == 503
    assert empty["took_s"] < 0.5


async def test_a_pod_cannot_send_the_proxy_to_the_hosts_loopback(live: Live) -> None:
    """One that may change its own rules turns calls of its loopback to the proxy, which goes nowhere."""
    await live.pod("client")
    await live.programmed("client")
    turned = real.REDIRECT.replace("table ip mesh", "table ip turned").replace("ip daddr != 127.0.0.0/8 ", "")
    run("ip", "netns", "exec", live.pods["client"], "nft", "-f", "-", text=turned.replace("-100", "-150"))
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as host:
        reached: list[object] = []

        async def serve(stream: anyio.abc.SocketStream) -> None:
            reached.append(stream)
            await stream.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.serve, serve)
            ports = (host.extra(anyio.abc.SocketAttribute.local_port), 80)  # noqa: S610
            for address in ("127.0.0.1", "127.8.8.8"):
                for port in ports:
                    (answer,) = await live.call("client", {"address": address, "port": port})
                    assert answer["status"] != 200
            tasks.cancel_scope.cancel()
    assert reached == []


async def test_each_attempt_is_a_span_in_the_callers_trace(live: Live) -> None:
    """A call is a span of the caller, each attempt a child of it; the callee is told the attempt's id."""
    await web(live)
    retries = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}
    spec = {"hosts": ["web"], "http": [split(("v1", 0), retries=retries)]}
    await live.rule(mesh.VIRTUAL_SERVICE, "web", spec)
    trace, parent = uuid.uuid4().hex, "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{parent}-01"}
    (answer,) = await live.call("client", {"path": f"/fail/1/{trace}", "headers": headers})

    async def arrived() -> bool:
        return len(live.servers.spans(trace)) == 3

    await live.world.eventually(arrived, why="the spans of the call")
    spans = live.servers.spans(trace)
    assert {service for service, _ in spans} == {"client"}
    (call,) = [span for _, span in spans if span.parent_span_id.hex() == parent]
    attempts = [span for _, span in spans if span.parent_span_id == call.span_id]
    parent_id = answer["seen"]["headers"]["traceparent"].split("-")[2]
    assert parent_id in {span.span_id.hex() for span in attempts}
    tags = {a.key: a.value.string_value for a in attempts[0].attributes}
    assert tags["upstream_cluster.name"] == "outbound|80|v1|web.default.svc.cluster.local"
    assert tags["upstream_address"] == f"{live.servers.address}:8001"


async def test_http_1_0_without_a_host_goes_where_it_was_going(live: Live) -> None:
    """Old health checks name no host: the address they call is enough."""
    await web(live)
    called = {"address": live.servers.address, "port": 8001, "send": "GET / HTTP/1.0\r\n\r\n"}
    await live.service("direct", port=("http", 8001), to={"web-v1": 8001})

    async def served() -> bool:
        return await live.statuses("client", {"port": 8001, "host": "direct"}) == [200]

    await live.world.eventually(served, why="the new service to answer")
    assert await live.statuses("client", called) == [200]


@pytest.mark.parametrize("name", ["http", ""])
async def test_a_call_may_be_the_last_on_its_connection(live: Live, name: str) -> None:
    """The answer comes whole before the connection ends, on a declared and on an undeclared port."""
    await web(live)
    await live.service("once", port=(name, 5002), to={"web-v1": 8001})
    called = {"port": 5002, "host": "once"}

    async def served() -> bool:
        return await live.statuses("client", called) == [200]

    await live.world.eventually(served, why="the new service to answer")
    heads = [
        "GET / HTTP/1.1\r\nhost: once\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: once\r\n\r\n",
    ]
    assert await live.statuses("client", *({**called, "send": head} for head in heads)) == [200, 200]


async def test_the_server_says_whether_it_wants_a_body(live: Live) -> None:
    """`Expect: 100-continue` is answered by the application, not by the proxy in its place."""
    await web(live)
    await live.rule(mesh.VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0))]})
    head = "PUT / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    assert await live.statuses("client", {"send": head}) == [417]

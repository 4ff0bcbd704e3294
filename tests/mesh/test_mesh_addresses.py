"""Calls of guarded pods by their own addresses, as headless Services and entries have them made."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from tests.mesh import live as real
from tests.mesh.guarded import Mesh, guarding
from tests.mesh.live import Live

from ondol.api import resources
from ondol.client import PatchType
from ondol.contracts import mesh

pytestmark = real.MARKS
ECHO = {"port": 9200, "end_after_s": 0.1}


async def court(guarded: Mesh, mode: str) -> str:
    """A server that lets the client in and nobody else, and two callers; the server's address."""
    ports = (("http", 8001), ("odd", 8002), ("tcp-echo", 9200))
    await guarded.server("web", *ports)
    for name in ("client", "other"):
        await guarded.account(name)
        await guarded.live.pod(name, account=name)
    await guarded.live.programmed("web", "client", "other")
    source = {"source": {"principals": ["cluster.local/ns/default/sa/client"]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "rules": [{"from": [source]}]}
    if mode == "STRICT":
        await guarded.rule(mesh.PEER_AUTHENTICATION, "all", {"mtls": {"mode": mode}})
    await guarded.rule(mesh.AUTHORIZATION_POLICY, "web", spec)
    await guarded.turned("web", *(("client", "other") if mode == "STRICT" else ()))
    return guarded.live.addresses["web"]


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE"])
async def test_who_calls_an_address_is_known(live: Live, mode: str) -> None:
    """Whatever the port is declared to speak; who may not is kept out, and who has no certificate."""
    async with guarding(live) as guarded:
        address = await court(guarded, mode)
        requests: list[dict[str, Any]] = [
            {"address": address, "host": f"{address}:{port}", "port": port} for port in (8001, 8002)
        ]
        for answer in await live.call("client", *requests, {**requests[0], "host": "web-0.web:8001"}):
            assert answer["status"] == 200, answer
            caller = answer["seen"]["headers"]["x-forwarded-client-cert"]
            assert "URI=spiffe://cluster.local/ns/default/sa/client" in caller
        assert await guarded.statuses("other", *requests) == [403, 403]
        echo = {"address": address, **ECHO}
        (allowed,) = await live.call("client", echo)
        assert allowed["text"] == "hello END"
        (refused,) = await live.call("other", echo)
        assert not refused.get("text"), refused


async def test_an_entry_that_lists_the_address_of_a_guarded_pod(live: Live) -> None:
    """By its endpoints, or left to whoever calls: callers are known as at the pod's own Service."""
    async with guarding(live) as guarded:
        address = await court(guarded, "STRICT")
        port = {"number": 8001, "name": "http", "protocol": "HTTP"}
        listed = {"hosts": ["listed.example"], "resolution": "STATIC", "location": "MESH_INTERNAL"}
        called = {"hosts": ["called.example"], "resolution": "NONE", "location": "MESH_INTERNAL"}
        entry = {**listed, "ports": [port], "endpoints": [{"address": address}]}
        await guarded.rule(mesh.SERVICE_ENTRY, "listed", entry)
        await guarded.rule(mesh.SERVICE_ENTRY, "called", {**called, "ports": [port]})
        for host in ("listed.example", "called.example"):
            request = {"address": address, "host": host, "port": 8001}
            assert await guarded.statuses("client", request) == [200], host
            assert await guarded.statuses("other", request) == [403], host


async def test_open_connections_outlive_another_guarded_pod(live: Live) -> None:
    """Whose address is told to the proxy: bytes on their way to other addresses go on."""
    async with guarding(live) as guarded:
        address = await court(guarded, "STRICT")
        code = (
            "import socket, sys\n"
            f"s = socket.create_connection(('{address}', 9200))\n"
            "for line in sys.stdin:\n"
            "    s.sendall(line.encode()); print(s.recv(100).decode(), end='', flush=True)\n"
        )
        command = ["ip", "netns", "exec", live.pods["client"], sys.executable, "-c", code]
        async with await anyio.open_process(command) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(b"before\n")
            assert await process.stdout.receive() == b"before\n"
            await live.pod("late")
            await live.programmed("late")
            await guarded.turned("late")
            late = live.addresses["late"]
            assert await guarded.statuses("client", {"address": late, "host": late, "port": 8001}) == [503]
            await process.stdin.send(b"after\n")
            assert await process.stdout.receive() == b"after\n"
            process.terminate()


async def test_a_port_that_only_its_pod_is_declared_at(live: Live) -> None:
    """Who calls by the address does not know that it is HTTP; the pod does, and reads it."""
    async with guarding(live) as guarded:
        address = await court(guarded, "STRICT")
        ports = [{"name": "http", "port": 80, "targetPort": 8001}]
        patch = {"spec": {"ports": ports}}
        await guarded.client.patch(
            resources.SERVICE, "web", "default", patch=patch, patch_type=PatchType.MERGE
        )
        request = {"address": address, "host": "anything", "port": 8001}

        async def is_read() -> bool:
            (answer,) = await live.call("client", request)
            headers = answer.get("seen", {}).get("headers", {})
            return "URI=spiffe://cluster.local/ns/default/sa/client" in headers.get(
                "x-forwarded-client-cert", ""
            )

        await live.world.eventually(is_read, why="the pod to read what it is asked")
        assert await guarded.statuses("other", request) == [403]

"""Health checks of Services: who has one, what it counts, and what it answers."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import anyio
import pytest
from tests.ports import free_port

from ondol.api.objects import Key, Object
from ondol.base.clock import SystemClock
from ondol.node import health_checks
from ondol.node.health_checks import Check, HealthChecks

pytestmark = pytest.mark.anyio
SHOP = Key("default", "shop")


def service(**spec: Any) -> Object:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}
    return {"metadata": {"name": "shop", "namespace": "default"}, "spec": {**local, **spec}}


def slice_of(*endpoints: tuple[str, bool]) -> Object:
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "shop"}},
        "endpoints": [
            {"addresses": [f"10.1.0.{last}"], "nodeName": node, "conditions": {"ready": ready}}
            for last, (node, ready) in enumerate(endpoints)
        ],
    }


@pytest.mark.parametrize(
    ("one", "endpoints", "checks"),
    [
        (service(), [("n1", True), ("n1", True), ("n2", True), ("n1", False)], [Check(SHOP, 30999, 2)]),
        (service(), [], [Check(SHOP, 30999, 0)]),
        (service(externalTrafficPolicy="Cluster"), [("n1", True)], []),
        (service(type="NodePort"), [("n1", True)], []),
    ],
)
async def test_ready_endpoints_of_the_node_count(
    one: Object, endpoints: list[tuple[str, bool]], checks: list[Check]
) -> None:
    """Of balancers that lead to local endpoints alone; what is elsewhere or not ready does not."""
    assert list(health_checks.checks([one], [slice_of(*endpoints)], "n1").values()) == checks


async def ask(
    port: int, request: bytes = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
) -> tuple[int, Any, str]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        received = b""
        while True:
            try:
                received += await stream.receive()
            except anyio.EndOfStream:
                break
    head, _, body = received.decode().partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(body), head


async def test_answers_are_kube_proxys() -> None:
    """200 or 503 by the endpoints there are now, with their count; gone with the Service."""
    port = free_port()
    async with anyio.create_task_group() as tasks:
        served = HealthChecks(tasks, SystemClock(), "127.0.0.1")
        assert await served.keep({SHOP: Check(SHOP, port, 2)}) == {}
        status, body, head = await ask(port)
        assert (status, body["service"]) == (200, {"namespace": "default", "name": "shop"})
        assert (body["localEndpoints"], body["serviceProxyHealthy"]) == (2, True)
        assert "X-Load-Balancing-Endpoint-Weight: 2" in head
        await served.keep({SHOP: Check(SHOP, port, 0)})
        status, body, _ = await ask(port)
        assert (status, body["localEndpoints"]) == (503, 0)
        await served.keep({})
        with pytest.raises(OSError, match=r"refused|attempts failed"):
            await ask(port)
        tasks.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_told() -> None:
    """And served as soon as it is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = int(other.getsockname()[1])
        async with anyio.create_task_group() as tasks:
            served = HealthChecks(tasks, SystemClock(), "127.0.0.1")
            failed = await served.keep({SHOP: Check(SHOP, port, 1)})
            assert failed[SHOP].startswith(f"failed to start healthcheck default/shop on port {port}: ")
            other.close()
            assert await served.keep({SHOP: Check(SHOP, port, 1)}) == {}
            assert (await ask(port))[0] == 200
            tasks.cancel_scope.cancel()


async def test_one_asker_cannot_hold_all_connections() -> None:
    """Whoever has its share of silent ones is hung up on at once; others are answered."""
    port = free_port()
    async with contextlib.AsyncExitStack() as opened, anyio.create_task_group() as tasks:
        served = HealthChecks(tasks, SystemClock(), "127.0.0.1")
        assert await served.keep({SHOP: Check(SHOP, port, 1)}) == {}
        streams = [await anyio.connect_tcp("127.0.0.1", port, local_host="127.0.0.2") for _ in range(100)]
        for stream in streams:
            await opened.enter_async_context(stream)
        for stream in streams[16:]:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        assert (await ask(port))[0] == 200
        tasks.cancel_scope.cancel()

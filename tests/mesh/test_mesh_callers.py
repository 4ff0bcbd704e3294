"""The proxy dials from where its caller is: the callee sees the caller's address, no call comes round."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
from tests.mesh import live as real
from tests.mesh.live import Live, counter, split, web

from ondol.api import resources
from ondol.contracts.mesh import GATEWAY, VIRTUAL_SERVICE
from ondol.mesh import mirrors

pytestmark = real.MARKS


def callers(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [answer["seen"]["caller"] for answer in answers]


async def test_who_is_called_sees_the_callers_address(live: Live) -> None:
    """Of declared and undeclared ports, and of what no service has; also on kept connections."""
    await web(live)
    await live.pod("other")
    await live.service("odd", port=("odd", 2600), to={"web-v1": 8001})
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0))]})
    await live.programmed("other")
    requests = [
        {},
        {"host": "odd", "port": 2600},
        {"address": live.servers.address, "port": 8002, "host": "whoever.example"},
    ]
    for _ in range(3):
        for pod in ("client", "other"):
            assert callers(await live.call(pod, *requests)) == [live.addresses[pod]] * 3


async def test_copies_are_dialled_from_the_caller(live: Live) -> None:
    """A mirrored request, too, begins where its caller is, whatever that one says of where it comes from."""
    await web(live)
    await live.pod("other")
    rule = split(("v1", 100)) | {"mirror": {"host": "web", "subset": "v2"}}
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [rule]})
    await live.programmed("other")
    forged = {mirrors.FROM: "/proc/1/ns/net", mirrors.TO: "nowhere"}
    for pod in ("client", "other", "client"):
        key = uuid.uuid4().hex
        await live.call(pod, {"path": f"/copied/{key}", "headers": forged})
        copies: list[Any] = []
        while len(copies) < 2:
            (answer,) = await live.call(pod, {"path": f"/copies/{key}"})
            copies = answer["seen"]["copies"]
        assert {caller for _, caller, _ in copies} == {live.addresses[pod]}
        (copy,) = [headers for port, _, headers in copies if port != answer["seen"]["port"]]
        assert not {mirrors.FROM, mirrors.TO} & set(copy)


async def test_the_ingress_dials_from_the_host(live: Live) -> None:
    """It is no pod: what it calls sees the machine's address, also beside pods that call the same."""
    await web(live)
    port = live.config.ingress_port
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["shop.example"]}
    await live.rule(GATEWAY, "shop", {"selector": {"istio": "ingressgateway"}, "servers": [server]})
    spec = {"hosts": ["shop.example"], "gateways": ["shop"], "http": [split(("v1", 0))]}
    await live.rule(VIRTUAL_SERVICE, "shop", spec)
    await live.call("client", {})

    def ask() -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"host": "shop.example"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return str(json.loads(answer.read())["caller"])

    assert await anyio.to_thread.run_sync(ask) == live.servers.host
    assert callers(await live.call("client", {})) == [live.addresses["client"]]


async def test_no_call_comes_round(live: Live) -> None:
    """To the proxy's own port, to the pod's own address, and to a Service that leads to the pod itself."""
    await live.pod("client")
    await live.service("me", to={"client": 15001})
    endpoint = {"addresses": [live.addresses["client"]], "conditions": {"ready": True}}
    await live.client.patch(resources.ENDPOINT_SLICE, "me-15001", "default", patch={"endpoints": [endpoint]})
    await live.programmed("client")
    before = counter(live, "server.total_connections")
    own = live.addresses["client"]
    answers = await live.call(
        "client",
        {"address": "127.0.0.1", "port": 15001},
        {"address": own, "port": 15001},
        {"address": own, "port": 80},
        {"address": own, "port": 4000},
        {"host": "me"},
    )
    assert [answer["status"] for answer in answers[:1]] == [0]
    assert {answer["status"] for answer in answers} <= {0, 503}
    assert counter(live, "server.total_connections") <= before
    assert await live.statuses("client", {"host": "me"}) == [503], "the proxy goes on"

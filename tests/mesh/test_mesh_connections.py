"""Rules for connections between pods, for real: weights, callers, and the names that TLS asks for."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import anyio
from tests.mesh import live as real
from tests.mesh.live import Live, web

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts.mesh import DESTINATION_RULE, VIRTUAL_SERVICE

pytestmark = real.MARKS
FIRST: Final = "hello from the server\n"
SECOND: Final = "hello from another\n"


async def versions(live: Live, name: str, *, port: tuple[str, int], to: dict[str, int]) -> str:
    """A service with two subsets; its address."""
    service = await live.service(name, port=port, to=to)
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    await live.rule(DESTINATION_RULE, name, {"host": name, "subsets": subsets})
    return str(objects.spec(service)["clusterIP"])


def to(name: str, version: str, weight: int = 0) -> Object:
    return {"destination": {"host": name, "subset": version}, "weight": weight}


async def test_connections_are_shared_by_weight_and_caller(live: Live) -> None:
    """As Istio's task of shifting TCP traffic, between pods; a caller with other labels has another route."""
    await web(live)
    await live.pod("tester", team="test")
    address = await versions(live, "echo", port=("tcp", 9000), to={"web-v1": 9000, "web-v2": 9001})
    spec = {
        "hosts": ["echo"],
        "tcp": [
            {"match": [{"sourceLabels": {"team": "test"}}], "route": [to("echo", "v2")]},
            {"match": [{"port": 9000}], "route": [to("echo", "v1", 80), to("echo", "v2", 20)]},
        ],
    }
    await live.rule(VIRTUAL_SERVICE, "echo", spec)
    await live.programmed("client", "tester")
    call = {"address": address, "port": 9000, "raw": True}
    seen = Counter(answer["text"] for answer in await live.call("client", *[call] * 100))
    assert set(seen) == {FIRST, SECOND}
    assert 5 <= seen[SECOND] <= 45
    assert {answer["text"] for answer in await live.call("tester", *[call] * 10)} == {SECOND}


async def test_the_name_that_tls_asks_for_chooses(live: Live) -> None:
    """On a port declared to be TLS; what asks for another name ends; open connections outlive the rule."""
    await web(live)
    address = await versions(live, "secure", port=("https", 443), to={"web-v1": 9443, "web-v2": 9444})
    plain = await versions(live, "echo", port=("tcp-echo", 9200), to={"web-v1": 9200})

    def leads(version: str, *names: str) -> dict[str, Any]:
        return {"match": [{"port": 443, "sniHosts": list(names)}], "route": [to("secure", version)]}

    spec = {
        "hosts": ["secure", "a.secure", "*.b.secure"],
        "tls": [leads("v1", "a.secure"), leads("v2", "*.b.secure")],
    }
    kept: list[dict[str, Any]] = []

    async def stay() -> None:
        kept.extend(await live.call("client", {"address": plain, "port": 9200, "end_after_s": 3}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stay)
        await anyio.sleep(0.5)
        await live.rule(VIRTUAL_SERVICE, "secure", spec)
        names = ("a.secure", "x.b.secure", "c.secure")
        calls = [{"address": address, "port": 443, "tls": name} for name in names]
        seen = [answer.get("text") for answer in await live.call("client", *calls)]
    assert seen == ["9443 a.secure\n", "9444 x.b.secure\n", None]
    assert kept[0]["text"] == "hello END"

"""Names of hosts outside that the mesh has addresses for: who is told which."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import pytest

from ondol.api.objects import Object
from ondol.base import clock
from ondol.node.dns import codec, outside
from ondol.node.dns.forwarding import Forwarder, Network, Upstreams
from ondol.node.dns.server import DnsServer

ZONE: Final = "cluster.local"
VIP: Final = [{"host": "api.example.com", "value": "240.240.0.1"}]


def entry(
    name: str, namespace: str = "ns", hosts: Sequence[str] = ("api.example.com",), **more: Any
) -> Object:
    status = more.pop("status", {})
    meta = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-01T00:00:{len(name):02}Z"}
    return {"metadata": meta, "spec": {"hosts": list(hosts), **more}, "status": status}


def pod(namespace: str = "ns", **labels: str) -> Object:
    return {"metadata": {"name": "client", "namespace": namespace, "labels": labels}}


def sidecar(*hosts: str, **more: Any) -> Object:
    return {
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {"egress": [{"hosts": list(hosts)}], **more},
    }


AUTOMATIC: Final = entry("auto", status={"addresses": VIP})
WRITTEN: Final = entry("wr", addresses=["192.0.2.1", "192.0.2.0/24", "192.0.2.2/32"])
WILD: Final = entry("wild", hosts=["*.example.com"], addresses=["192.0.2.9"])
NONE: Final = entry("none", resolution="NONE")
TABLE: Final = [
    ("its automatic address", "api.example.com", pod(), [AUTOMATIC], [], ["240.240.0.1"]),
    ("those written, but no network", "api.example.com", pod(), [WRITTEN], [], ["192.0.2.1", "192.0.2.2"]),
    ("nothing without an address", "api.example.com", pod(), [NONE], [], None),
    ("a wildcard's", "x.example.com", pod(), [WILD], [], ["192.0.2.9"]),
    ("the name before a wildcard", "api.example.com", pod(), [WILD, AUTOMATIC], [], ["240.240.0.1"]),
    ("not the domain of a wildcard", "example.com", pod(), [WILD], [], None),
    ("nothing of another namespace", "api.example.com", pod("other"), [AUTOMATIC], [], None),
    (
        "that of a root namespace",
        "api.example.com",
        pod("other"),
        [entry("root", "istio-system", addresses=["192.0.2.5"])],
        [],
        ["192.0.2.5"],
    ),
    (
        "its own before everybody's",
        "api.example.com",
        pod(),
        [entry("r", "istio-system", addresses=["192.0.2.5"]), AUTOMATIC],
        [],
        ["240.240.0.1"],
    ),
    (
        "nothing that is not exported",
        "api.example.com",
        pod(),
        [entry("root", "istio-system", addresses=["192.0.2.5"], exportTo=["other"])],
        [],
        None,
    ),
    ("nothing that a Sidecar leaves out", "api.example.com", pod(), [AUTOMATIC], [sidecar("other/*")], None),
    (
        "what a Sidecar lets in",
        "api.example.com",
        pod(),
        [AUTOMATIC],
        [sidecar("./*.example.com")],
        ["240.240.0.1"],
    ),
    (
        "what the Sidecar of other pods leaves out",
        "api.example.com",
        pod(app="x"),
        [AUTOMATIC],
        [sidecar("~/*", workloadSelector={"labels": {"app": "y"}})],
        ["240.240.0.1"],
    ),
    (
        "nothing of one that is refused",
        "api.example.com",
        pod(),
        [entry("bad", status={"addresses": VIP, "conditions": [{"type": "Accepted", "status": "False"}]})],
        [],
        None,
    ),
    (
        "a name of its own namespace",
        "db.ns.svc.cluster.local",
        pod(),
        [entry("db", hosts=["db"], addresses=["192.0.2.3"])],
        [],
        ["192.0.2.3"],
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_who_is_told_what(row: Any) -> None:
    """The closest name, of entries that the pod may call."""
    what, name, asker, entries, sidecars, expected = row
    assert outside.answer(name, asker, entries, sidecars, ZONE) == expected, what


class Zone:
    """A cluster without a Service."""

    address = "10.100.0.1"

    def service(self, _namespace: str, _name: str) -> None:
        return None

    def slices(self, _namespace: str, _name: str) -> Sequence[Object]:
        return ()

    def services_at(self, _address: str) -> Sequence[Object]:
        return ()

    def slices_with(self, _address: str) -> Sequence[Object]:
        return ()

    def has_namespace(self, _name: str) -> bool:
        return True


class Names:
    """Two names, for one asker."""

    def addresses(self, name: str, asker: str) -> Sequence[str] | None:
        names = ("api.example.com", "db.ns.svc.cluster.local")
        return ["240.240.0.1"] if name in names and asker == "10.100.0.7" else None


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["api.example.com", "db.ns.svc.cluster.local"])
async def test_its_answers_on_the_wire(name: str) -> None:
    """An A record; of IPv6 none, by which calls would go past the mesh; to others it is no name of ours."""
    time = clock.ManualClock()
    nobody = Forwarder(Upstreams(list, {}), Network(), time, random.Random(1))
    server = DnsServer(ZONE, Zone(), nobody, time, outside=Names())

    async def code_and_size(type: int, asker: str) -> tuple[int, int]:
        head = b"\0\7\1\0\0\1\0\0\0\0\0\0"
        message = head + codec.encode_name(name) + type.to_bytes(2, "big") + b"\0\1"
        reply = await server.answer(message, is_tcp=True, asker=asker)
        return reply[3] & 0xF, int.from_bytes(reply[6:8], "big")

    assert await code_and_size(codec.A, "10.100.0.7") == (codec.NOERROR, 1)
    assert await code_and_size(codec.AAAA, "10.100.0.7") == (codec.NOERROR, 0)
    assert (await code_and_size(codec.A, "10.100.0.8"))[0] in (codec.SERVFAIL, codec.NXDOMAIN)

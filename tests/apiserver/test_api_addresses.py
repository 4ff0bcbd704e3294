"""Addresses of the platform's own: no external IP and no endpoint of a user's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ondol import apiserver

pytestmark = pytest.mark.anyio

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
ENDPOINTS = "/api/v1/namespaces/default/endpoints"
CONFIG = apiserver.ApiConfig(
    service_cidr="10.101.0.0/16",
    pod_cidr="10.100.0.0/16",
    advertise_address="10.100.0.1",
    own_ports=frozenset({53, 6443, 16686}),
)


@pytest.fixture
async def api(start: Any) -> AsyncIterator[Any]:
    async with start(config=CONFIG) as server:
        yield server


def service(*external_ips: str, name: str = "x") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "externalIPs": list(external_ips)}}


def slice_(address: str, *ports: int | None, family: str = "IPv4") -> dict[str, Any]:
    listed = [{"name": f"p{n}", **({} if port is None else {"port": port})} for n, port in enumerate(ports)]
    return {
        "metadata": {"name": "s"},
        "addressType": family,
        "endpoints": [{"addresses": [address]}],
        "ports": listed,
    }


def subsets(address: str, port: int, field: str = "addresses") -> dict[str, Any]:
    return {"metadata": {"name": "e"}, "subsets": [{field: [{"ip": address}], "ports": [{"port": port}]}]}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.100.0.1", "platform's own"),
        ("10.100.7.9", "platform's own"),
        ("10.101.0.10", "platform's own"),
        ("::ffff:10.101.0.10", "platform's own"),
        ("127.0.0.1", "loopback range"),
        ("169.254.169.254", "link-local range"),
        ("224.0.0.5", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("nowhere", "must be a valid IP address"),
        ("203.0.113.9", ""),
        ("10.102.0.1", ""),
    ],
)
async def test_external_ips(api: Any, address: str, words: str) -> None:
    """What is the platform's cannot be taken over by a Service; addresses elsewhere can."""
    answer = await api.post(SERVICES, service("198.51.100.1", address))
    if not words:
        assert answer.status == 201
        return
    assert answer.status == 422
    (cause,) = answer.json["details"]["causes"]
    assert cause["field"] == "spec.externalIPs[1]"
    assert words in cause["message"]


async def test_external_ips_can_be_denied_altogether(start: Any) -> None:
    """Kubernetes' DenyServiceExternalIPs."""
    config = apiserver.ApiConfig(deny_external_ips=True)
    async with start(config=config) as api:
        answer = await api.post(SERVICES, service("203.0.113.9"))
        assert (answer.status, answer.json["message"]) == (
            403,
            'services "x" is forbidden: Use of external IPs is denied by admission control.',
        )
        assert (await api.post(SERVICES, service())).status == 201
        change = {"spec": {"externalIPs": ["203.0.113.9"]}}
        assert (await api.patch(f"{SERVICES}/x", change)).status == 403


@pytest.mark.parametrize(
    ("address", "ports", "words"),
    [
        ("10.100.0.1", [6443], "may not be the platform itself (port 6443)"),
        ("10.100.0.1", [8080, 53], "may not be the platform itself (port 53)"),
        ("10.100.0.1", [None], "may not be the platform itself (port 53, 6443, 16686)"),
        ("10.100.0.1", [10250], ""),
        ("10.100.0.9", [6443], ""),
        ("10.101.0.1", [443], "may not be the address of a service"),
        ("127.0.0.1", [1], "loopback range"),
    ],
)
async def test_endpoints(api: Any, address: str, ports: list[int | None], words: str) -> None:
    """Where the platform listens, and Services' addresses, are no endpoints; what else is at the node is."""
    documents = [(SLICES, slice_(address, *ports))]
    if None not in ports and len(ports) == 1:
        documents += [(ENDPOINTS, subsets(address, ports[0] or 0))]
        documents += [(ENDPOINTS, subsets(address, ports[0] or 0, "notReadyAddresses"))]
    for path, document in documents:
        answer = await api.post(f"{path}?dryRun=All", document)
        assert (answer.status == 201) is not words, answer.json
        if words:
            assert answer.status == 422
            assert words in answer.json["details"]["causes"][0]["message"]


@pytest.mark.parametrize(
    ("address", "family", "words"),
    [
        ("::1", "IPv6", "loopback"),
        ("fe80::1", "IPv6", "link-local"),
        ("fe80::1%eth0", "IPv6", "must be an IPv6 address"),
        ("::ffff:127.0.0.1", "IPv6", "must be an IPv6 address"),
        ("::ffff:7f00:1", "IPv6", "must be an IPv6 address"),
        ("127.1", "IPv4", "must be an IPv4 address"),
    ],
)
async def test_endpoints_in_other_clothes(api: Any, address: str, family: str, words: str) -> None:
    """A mapped or zoned form is no address of the family."""
    answer = await api.post(SLICES, slice_(address, 80, family=family))
    assert answer.status == 422
    assert words in answer.json["message"]


async def test_the_platforms_parts_write_its_addresses(api: Any) -> None:
    """The activator's endpoints are at the node's own address, whatever the port."""
    part = api.as_("system:ondol:gateway", "system:masters")
    assert (await part.post(SLICES, slice_("10.100.0.1", 6443))).status == 201


async def test_what_is_there_may_be_changed_otherwise(api: Any) -> None:
    """A label may be put on the platform's own slice; another of its ports may not."""
    await api.as_("system:ondol:control", "system:masters").post(SLICES, slice_("10.100.0.1", 6443))
    label = {"metadata": {"labels": {"a": "b"}}}
    assert (await api.patch(f"{SLICES}/s", label)).status == 200
    more = {"ports": [{"name": "p0", "port": 6443}, {"name": "p1", "port": 53}]}
    assert (await api.patch(f"{SLICES}/s", more)).status == 422

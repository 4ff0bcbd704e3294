"""What the API refuses of Gateway API's objects, and what it stores where nothing is given."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ondol import apiserver, mesh, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import cluster
from ondol.mesh.config import MeshConfig
from ondol.mesh.gateway_api import definitions, feed, names
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio

HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
BACKEND = [{"name": "a", "port": 80}]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An API server with Gateway API's kinds and the mesh's."""
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1))
    async with World(app, clock=SystemClock()) as started:
        await sdk.install_crds(started.client, mesh.crds())
        yield started


async def create(world: World, resource: Resource, spec: Any, name: str = "x") -> Any:
    document = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    return await world.client.create(resource, document, "default" if resource.namespaced else "")


def gateway(*listeners: Any, **more: Any) -> Any:
    return {"gatewayClassName": "ondol", "listeners": list(listeners), **more}


def rule(**more: Any) -> Any:
    return {"rules": [{"backendRefs": BACKEND, **more}]}


REFUSED = [
    (names.GATEWAY, gateway(), "at least 1"),
    (names.GATEWAY, gateway(HTTP, HTTP | {"name": "b"}), "same port, protocol and hostname"),
    (names.GATEWAY, gateway(HTTP | {"protocol": "TLS"}), "need a tls mode"),
    (names.GATEWAY, gateway(HTTP | {"tls": {"certificateRefs": [{"name": "c"}]}}), "have no tls"),
    (names.GATEWAY, gateway(HTTP | {"protocol": "HTTPS", "tls": {}}), "needs certificateRefs or options"),
    (names.GATEWAY, gateway(HTTP | {"protocol": "TCP", "hostname": "a.com"}), "have no hostname"),
    (names.GATEWAY, gateway(HTTP, addresses=[{"value": "1.2.3.4"}] * 2), "asked for once"),
    (names.GATEWAY, gateway(HTTP | {"hostname": "a.*.com"}), "hostname"),
    (names.HTTP_ROUTE, rule(matches=[{"path": {"value": "a"}}]), "begins with /"),
    (names.HTTP_ROUTE, rule(matches=[{"path": {"value": "/a//b"}}]), "does not contain //"),
    (names.HTTP_ROUTE, {"rules": [{"backendRefs": [{"name": "a"}]}]}, "a Service needs a port"),
    (names.HTTP_ROUTE, rule(filters=[{"type": "URLRewrite"}]), "urlRewrite is for filters"),
    (
        names.HTTP_ROUTE,
        rule(filters=[{"type": "RequestRedirect", "requestRedirect": {}}]),
        "RequestRedirect has no backendRefs",
    ),
    (names.HTTP_ROUTE, rule(timeouts={"request": "1s", "backendRequest": "2s"}), "not longer than request"),
    (names.HTTP_ROUTE, {"parentRefs": [{"name": "a"}, {"name": "a"}]}, "the same sectionName"),
    (names.HTTP_ROUTE, {"rules": [{"matches": [{}] * 64}] * 3}, "128 matches at most"),
    (
        names.GRPC_ROUTE,
        {"rules": [{"matches": [{"method": {}}]}]},
        "needs a service or a method",
    ),
    (names.TLS_ROUTE, {"hostnames": ["1.2.3.4"], "rules": [{"backendRefs": BACKEND}]}, "no addresses"),
    (names.TCP_ROUTE, {"rules": [{"backendRefs": BACKEND}] * 2}, "at most 1|Too many"),
]


async def test_the_schema_refuses_what_gateway_apis_does(world: World) -> None:
    """One mistake each, named in the message."""
    for resource, spec, text in REFUSED:
        with pytest.raises(errors.ApiError, match=text):
            await create(world, resource, spec)


async def test_what_is_left_out_has_gateway_apis_defaults(world: World) -> None:
    """As the objects are stored, so that whoever reads them need not know the defaults."""
    route = await create(world, names.HTTP_ROUTE, {"parentRefs": [{"name": "g"}]})
    assert route["spec"] == {
        "parentRefs": [{"group": names.GROUP, "kind": "Gateway", "name": "g"}],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
    }
    stored = await create(world, names.GATEWAY, gateway(HTTP))
    assert stored["spec"]["listeners"] == [HTTP | {"allowedRoutes": {"namespaces": {"from": "Same"}}}]
    assert [each["reason"] for each in conditions.of(stored)] == ["Pending", "Pending"]


def test_every_kind_has_the_versions_that_gateway_api_serves() -> None:
    """The stored one first; ReferenceGrants are still stored in the older."""
    versions = {
        crd["spec"]["names"]["kind"]: [each["name"] for each in crd["spec"]["versions"]]
        for crd in definitions.crds()
    }
    both = ["v1", "v1beta1"]
    assert {kind: each for kind, each in versions.items() if each != ["v1"]} == {
        "GatewayClass": both,
        "Gateway": both,
        "HTTPRoute": both,
        "ReferenceGrant": both[::-1],
    }


async def test_the_classes_are_made_once_and_told_what_they_support(
    world: World, mesh_config: MeshConfig
) -> None:
    """Who deletes one has it no more; Gateways of others' classes are left alone."""
    manager = world.manager("mesh")
    mesh.add_to(manager, mesh_config)
    await world.start(manager)
    home = cluster.PLATFORM_NAMESPACE

    async def are_accepted() -> bool:
        try:
            listed = [await world.client.get(names.GATEWAY_CLASS, name) for name in names.CLASSES]
        except errors.NotFound:
            return False
        return all(conditions.is_true(each, "Accepted") for each in listed)

    await world.eventually(are_accepted, why="the classes to be accepted")
    of = await world.client.get(names.GATEWAY_CLASS, "ondol")
    assert conditions.is_true(of, "SupportedVersion")
    assert "HTTPRouteCORS" in [each["name"] for each in objects.status(of)["supportedFeatures"]]
    assert feed.MARK in objects.annotations(await world.client.get(resources.NAMESPACE, home))
    await create(world, names.GATEWAY, gateway(HTTP, gatewayClassName="somebody-elses"), "theirs")
    await create(world, names.GATEWAY, gateway(HTTP), "ours")

    async def accepted() -> bool:
        return conditions.is_true(await world.client.get(names.GATEWAY, "ours", "default"), "Accepted")

    await world.eventually(accepted, why="the Gateway to be accepted")
    ours = await world.client.get(names.GATEWAY, "ours", "default")
    assert (conditions.get(ours, "Programmed") or {})["status"] == "False", "no proxy is there"
    theirs = await world.client.get(names.GATEWAY, "theirs", "default")
    assert [each["reason"] for each in conditions.of(theirs)] == ["Pending", "Pending"]

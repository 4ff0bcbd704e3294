"""Discovery and OpenAPI: what clients learn before they ask for anything."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def test_legacy_discovery(api: Any) -> None:
    """Versions, groups and resources, one document a path."""
    assert (await api.get("/api")).json["versions"] == ["v1"]
    groups = [group["name"] for group in (await api.get("/apis")).json["groups"]]
    assert "apps" in groups
    assert "" not in groups
    listed = (await api.get("/api/v1")).json
    pods = next(entry for entry in listed["resources"] if entry["name"] == "pods")
    assert (pods["kind"], pods["singularName"], pods["shortNames"]) == ("Pod", "pod", ["po"])
    assert (await api.get("/apis/apps")).json["preferredVersion"]["version"] == "v1"
    assert (await api.get("/apis/none.example")).status == 404
    assert "/apis/apps/v1" in (await api.get("/")).json["paths"]


async def test_aggregated_discovery_is_tagged(api: Any) -> None:
    """All of it in one document, asked for again at the cost of a tag."""
    answer = await api.get("/apis", accept=f"{_AGGREGATED},application/json")
    assert answer.headers["content-type"] == _AGGREGATED
    assert answer.json["kind"] == "APIGroupDiscoveryList"
    again = await api.get("/apis", accept=_AGGREGATED, if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    core = await api.get("/api", accept=_AGGREGATED)
    assert core.json["items"][0]["versions"][0]["version"] == "v1"


async def test_openapi_by_its_hash(api: Any) -> None:
    """The index leads to documents that may be kept for ever; a stale hash leads to the new one."""
    index = (await api.get("/openapi/v3")).json
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    document = await api.get(url)
    assert document.headers["cache-control"] == "public, immutable"
    patch = document.json["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    stale = await api.get("/openapi/v3/apis/apps/v1?hash=0")
    assert (stale.status, stale.headers["location"]) == (301, url)
    assert (await api.get("/openapi/v3/apis/none/v1")).status == 404


async def test_openapi_v2(api: Any) -> None:
    """The old document is there for old clients."""
    document = (await api.get("/openapi/v2")).json
    assert document["swagger"] == "2.0"
    assert "io.k8s.api.core.v1.Pod" in document["definitions"]


async def test_version_and_health(api: Any) -> None:
    """A Kubernetes version clients can compare, and checks in the form of Kubernetes."""
    version = (await api.get("/version")).json
    assert (version["major"], version["minor"]) == ("1", "36")
    assert version["gitVersion"].startswith("v1.36.")
    assert (await api.get("/readyz")).body == b"ok"
    assert b"readyz check passed" in (await api.get("/readyz?verbose")).body
    assert (await api.get("/healthz/none")).status == 404

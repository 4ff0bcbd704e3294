"""Namespaces: what a new one is given, and how one goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol import apiserver, store

pytestmark = pytest.mark.anyio

NAMESPACES = "/api/v1/namespaces"
Make = Callable[..., dict[str, Any]]


async def test_the_first_namespaces_are_there(api: Any) -> None:
    """The ones every client expects, and the platform's own."""
    names = [item["metadata"]["name"] for item in (await api.get(NAMESPACES)).json["items"]]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system", "ondol-system"]


async def test_a_new_namespace_is_ready_for_pods(start: Any, pod: Make) -> None:
    """Its label, its finalizer, its default account and the authority's certificate come at once."""
    async with start(config=apiserver.ApiConfig(ca_certificate="PEM")) as api:
        created = (await api.post(NAMESPACES, {"metadata": {"name": "shop"}})).json
        assert created["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
        assert created["spec"] == {"finalizers": ["kubernetes"]}
        assert created["status"] == {"phase": "Active"}
        assert (await api.get(f"{NAMESPACES}/shop/configmaps/kube-root-ca.crt")).json["data"] == {
            "ca.crt": "PEM"
        }
        assert (await api.post(f"{NAMESPACES}/shop/pods", pod("p"))).status == 201


async def test_nothing_is_created_in_a_namespace_that_is_missing_or_going(api: Any, config_map: Make) -> None:
    """404 for one that is not there, 403 for one under deletion; what is there may still change."""
    missing = await api.post(f"{NAMESPACES}/none/configmaps", config_map("a"))
    assert (missing.status, missing.json["message"]) == (404, 'namespaces "none" not found')
    await api.post(NAMESPACES, {"metadata": {"name": "shop"}})
    await api.post(f"{NAMESPACES}/shop/configmaps", config_map("a"))
    await api.delete(f"{NAMESPACES}/shop")
    going = await api.post(f"{NAMESPACES}/shop/configmaps", config_map("b"))
    assert (going.status, going.json["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    assert (await api.patch(f"{NAMESPACES}/shop/configmaps/a", {"data": {"k": "v"}})).status == 200


async def test_a_namespace_goes_when_it_is_finalized(api: Any) -> None:
    """Deletion marks it Terminating; the controller that emptied it takes the finalizer away."""
    await api.post(NAMESPACES, {"metadata": {"name": "shop"}})
    going = (await api.delete(f"{NAMESPACES}/shop")).json
    assert going["status"]["phase"] == "Terminating"
    assert going["metadata"]["deletionTimestamp"]
    assert (await api.patch(f"{NAMESPACES}/shop", {"spec": {"finalizers": []}})).status == 200
    nonsense = {"metadata": {"name": "shop"}, "spec": {"finalizers": "x"}}
    assert (await api.put(f"{NAMESPACES}/shop/finalize", nonsense)).status == 400
    assert (await api.get(f"{NAMESPACES}/shop")).status == 200  # only finalize takes it away
    done = {**going, "spec": {"finalizers": []}}
    del done["metadata"]["resourceVersion"]
    finalized = await api.put(f"{NAMESPACES}/shop/finalize", done)
    assert finalized.status == 200
    assert (await api.get(f"{NAMESPACES}/shop")).status == 404


async def test_finalizing_takes_the_metadata_and_leaves_the_status(api: Any) -> None:
    """As a write of the namespace does, but for what is going on."""
    created = (await api.post(NAMESPACES, {"metadata": {"name": "shop"}})).json
    metadata = {**created["metadata"], "annotations": {"example.com/why": "audit"}}
    finalizers = ["kubernetes", "example.com/audit"]
    sent = {**created, "metadata": metadata, "spec": {"finalizers": finalizers}, "status": {"phase": "Gone"}}
    assert (await api.put(f"{NAMESPACES}/shop/finalize", sent)).status == 200
    stored = (await api.get(f"{NAMESPACES}/shop")).json
    assert stored["metadata"]["annotations"] == {"example.com/why": "audit"}
    assert stored["spec"]["finalizers"] == finalizers
    assert stored["status"] == created["status"]


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
async def test_some_namespaces_may_not_go(api: Any, name: str) -> None:
    """Too much hangs on them."""
    refused = await api.delete(f"{NAMESPACES}/{name}")
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")


async def test_a_restart_changes_nothing(start: Any) -> None:
    """What was made sure of at the first start is left alone at the second."""
    log = store.open_memory()
    async with start(log):
        pass
    revision = log.revision
    async with start(log):
        pass
    assert log.revision == revision
    log.close()

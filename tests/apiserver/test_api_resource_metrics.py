"""`metrics.k8s.io`: what nodes and pods use, as their agents tell it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from ondol.base import errors

Make: TypeAlias = Callable[..., dict[str, Any]]
PODS = "/api/v1/namespaces/default/pods"
METRICS = "/apis/metrics.k8s.io/v1beta1"


class _Answer:
    status = 200
    content_type = "application/json"

    def __init__(self, document: Any) -> None:
        self._body = json.dumps(document).encode()

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


class _Agents:
    """Agents by node; one without a document does not answer."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self.documents = documents

    @asynccontextmanager
    async def get(self, node: str, path: str, query: Mapping[str, str]) -> AsyncIterator[_Answer]:
        assert (path, query) == ("/stats/summary", {})
        if node not in self.documents:
            raise errors.Unavailable(f"the agent of node {node} does not answer")
        yield _Answer(self.documents[node])


def _used(nanocores: int | None, mebibytes: int) -> dict[str, Any]:
    cpu: dict[str, Any] = {"time": "2026-01-01T00:00:00Z", "usageCoreNanoSeconds": 7}
    if nanocores is not None:
        cpu |= {"usageNanoCores": nanocores, "windowSeconds": 15.5}
    return {"cpu": cpu, "memory": {"workingSetBytes": mebibytes * 1024 * 1024}}


def _pod_usage(pod: dict[str, Any], **containers: Any) -> dict[str, Any]:
    metadata = pod["metadata"]
    reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
    listed = [{"name": name, **used} for name, used in containers.items()]
    return {"podRef": reference, **_used(1, 1), "containers": listed}


async def _two_nodes(api: Any, pod: Make, documents: dict[str, Any]) -> list[dict[str, Any]]:
    """Nodes n1, which answers, and n2, which does not; pods a with a label, b and c on the first."""
    for node in ("n1", "n2"):
        await api.post("/api/v1/nodes", {"metadata": {"name": node, "labels": {"disk": "ssd"}}})
    pods = []
    for name in ("a", "b", "c"):
        document = pod(name, nodeName="n1")
        if name == "a":
            document["metadata"]["labels"] = {"app": "cart"}
        pods.append((await api.post(PODS, document)).json)
    usages = [
        _pod_usage(pods[0], main=_used(250_000_000, 10), side=_used(0, 2)),
        _pod_usage(pods[1], main=_used(None, 10)),
        {**_pod_usage(pods[2], main=_used(1, 1)), "podRef": {**pods[2]["metadata"], "uid": "another"}},
    ]
    documents["n1"] = {"node": {"nodeName": "n1", **_used(1_500_000_000, 512)}, "pods": usages}
    return pods


async def test_pods_by_container(start: Any, pod: Make) -> None:
    """Of each pod that a rate is known of, with its labels; not of one that took its name."""
    documents: dict[str, Any] = {}
    async with start(node_proxy=_Agents(documents)) as api:
        await _two_nodes(api, pod, documents)
        answer = await api.get(f"{METRICS}/namespaces/default/pods")
        assert (answer.status, answer.json["kind"]) == (200, "PodMetricsList")
        (item,) = answer.json["items"]
        assert item["metadata"]["name"] == "a"
        assert item["metadata"]["labels"] == {"app": "cart"}
        assert (item["timestamp"], item["window"]) == ("2026-01-01T00:00:00Z", "15.5s")
        assert item["containers"] == [
            {"name": "main", "usage": {"cpu": "250000000n", "memory": "10240Ki"}},
            {"name": "side", "usage": {"cpu": "0", "memory": "2048Ki"}},
        ]
        for query, count in (("app=cart", 1), ("app=other", 0)):
            chosen = await api.get(f"{METRICS}/pods?labelSelector={query}")
            assert len(chosen.json["items"]) == count
        named = await api.get(f"{METRICS}/namespaces/default/pods/a")
        assert (named.status, named.json["kind"]) == (200, "PodMetrics")
        absent = await api.get(f"{METRICS}/namespaces/default/pods/b")
        assert absent.status == 404
        assert absent.json["message"] == 'podmetrics.metrics.k8s.io "default/b" not found'


async def test_nodes_whose_agents_answer(start: Any, pod: Make) -> None:
    """One that does not answer is left out; if none does, that is told."""
    documents: dict[str, Any] = {}
    async with start(node_proxy=_Agents(documents)) as api:
        await _two_nodes(api, pod, documents)
        answer = await api.get(f"{METRICS}/nodes")
        (item,) = answer.json["items"]
        assert item["metadata"]["name"] == "n1"
        assert item["metadata"]["labels"] == {"disk": "ssd"}
        assert item["usage"] == {"cpu": "1500000000n", "memory": "524288Ki"}
        table = await api.get(f"{METRICS}/nodes", accept="application/json;as=Table;g=meta.k8s.io;v=v1")
        assert table.json["rows"][0]["cells"] == ["n1", "1500000000n", "524288Ki", "15.5s"]
        documents.clear()
        silent = await api.get(f"{METRICS}/nodes")
        assert (silent.status, silent.json["reason"]) == (503, "ServiceUnavailable")


async def test_it_is_only_read(start: Any) -> None:
    """Discovery says so, and nothing is kept."""
    async with start(node_proxy=_Agents({})) as api:
        resources = (await api.get(METRICS)).json["resources"]
        assert {each["name"]: each["verbs"] for each in resources} == {
            "nodes": ["get", "list"],
            "pods": ["get", "list"],
        }
        assert (await api.post(f"{METRICS}/nodes", {"metadata": {"name": "n1"}})).status == 405
        assert (await api.get(f"{METRICS}/nodes")).json["items"] == []

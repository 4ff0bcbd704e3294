"""`metrics.k8s.io`: what nodes and pods use now, asked of the nodes' agents and stored nowhere.

As Kubernetes' metrics-server answers: a pod or node that no rate is known of is left out. That server is an
add-on which reads the agents every fifteen seconds; here they are read when somebody asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import anyio

from ondol.api import fields, objects, resources
from ondol.api.objects import Object
from ondol.apiserver import answers, documents, selecting
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.listing import Listing
from ondol.apiserver.ports import NodeProxy
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Record

_AGENT_S: Final = 10.0
_OK: Final = 200
_SUMMARY: Final = "/stats/summary"


async def read_nodes(core: Core, request: Request, served: Served) -> Answer:
    """One node's usage, or that of all that are selected."""
    summaries = await _summaries(core, [objects.name(node) for node in core.list_objects(resources.NODE)])
    usages = [summary["node"] for summary in summaries]
    metrics = [
        _document(
            served, core.lookup(resources.NODE, "", usage["nodeName"]), usage, {"usage": _amounts(usage)}
        )
        for usage in usages
        if _has_rate(usage)
    ]
    return _answer(core, request, served, metrics)


async def read_pods(core: Core, request: Request, served: Served) -> Answer:
    """One pod's usage, or that of all that are selected, by container."""
    info = request.info
    pods = core.list_objects(resources.POD, info.namespace)
    nodes = {
        str(objects.spec(pod).get("nodeName") or "")
        for pod in pods
        if not info.name or objects.name(pod) == info.name
    }
    summaries = await _summaries(core, sorted(nodes - {""}))
    metrics = [
        _of_pod(served, pod, usage)
        for summary in summaries
        for usage in summary["pods"]
        if (pod := _pod_of(core, usage, info.namespace)) is not None and _is_whole(usage)
    ]
    return _answer(core, request, served, metrics)


def _pod_of(core: Core, usage: Mapping[str, Any], namespace: str) -> Object | None:
    """The pod that a usage is of, if it still is that one and of the namespace asked for."""
    reference = usage["podRef"]
    if namespace and reference["namespace"] != namespace:
        return None
    pod = core.lookup(resources.POD, reference["namespace"], reference["name"])
    return pod if pod is not None and objects.uid(pod) == reference["uid"] else None


def _is_whole(usage: Mapping[str, Any]) -> bool:
    """Whether a sum over its containers would be the pod's."""
    return bool(usage["containers"]) and all(map(_has_rate, usage["containers"]))


def _has_rate(usage: Mapping[str, Any]) -> bool:
    return "usageNanoCores" in usage["cpu"]


async def _summaries(core: Core, nodes: list[str]) -> list[Mapping[str, Any]]:
    """What the agents of the nodes tell; one that does not answer is left out, as long as another does."""
    if core.node_proxy is None:
        raise errors.Unavailable("this server has no way to reach node agents")
    proxy = core.node_proxy
    summaries: dict[str, Mapping[str, Any]] = {}
    failures: list[errors.ApiError] = []

    async def ask(node: str) -> None:
        try:
            with core.clock.fail_after(_AGENT_S):
                summaries[node] = await _summary(proxy, node)
        except TimeoutError:
            failures.append(errors.Unavailable(f"the agent of node {node} does not answer"))
        except errors.ApiError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for node in nodes:
            tasks.start_soon(ask, node)
    if failures and not summaries:
        raise failures[0]
    return [summaries[node] for node in nodes if node in summaries]


async def _summary(proxy: NodeProxy, node: str) -> Mapping[str, Any]:
    async with proxy.get(node, _SUMMARY, {}) as answer:
        body = b"".join([chunk async for chunk in answer.chunks()])
        if answer.status != _OK:
            raise errors.Internal(f"the agent of node {node} answered {answer.status}")
    summary: Mapping[str, Any] = json.loads(body)
    return summary


def _of_pod(served: Served, pod: Object, usage: Mapping[str, Any]) -> Object:
    containers = [{"name": each["name"], "usage": _amounts(each)} for each in usage["containers"]]
    return _document(served, pod, usage["containers"][0], {"containers": containers})


def _document(
    served: Served, subject: Object | None, usage: Mapping[str, Any], content: Mapping[str, Any]
) -> Object:
    """The metrics of a node or a pod: with its name and labels, and of the time that `usage` was read at."""
    about = subject or {"metadata": {"name": usage.get("nodeName", "")}}
    time, window = usage["cpu"]["time"], usage["cpu"]["windowSeconds"]
    identity = {"name": objects.name(about), "namespace": objects.namespace(about)}
    metadata = {key: text for key, text in identity.items() if text}
    labels = {"labels": dict(objects.labels(about))} if objects.labels(about) else {}
    return {
        "kind": served.resource.kind,
        "apiVersion": served.resource.api_version,
        "metadata": {**metadata, "creationTimestamp": time, **labels},
        "timestamp": time,
        "window": f"{window}s",
        **content,
    }


def _amounts(usage: Mapping[str, Any]) -> Mapping[str, str]:
    """In the units that metrics-server uses."""
    cpu, memory = usage["cpu"]["usageNanoCores"], usage["memory"]["workingSetBytes"]
    return {"cpu": f"{cpu}n" if cpu else "0", "memory": f"{memory // 1024}Ki"}


def _answer(core: Core, request: Request, served: Served, metrics: list[Object]) -> Answer:
    chosen = selecting.selection(request, served)
    if request.info.verb == "get":
        name = request.info.name
        for each in metrics:
            if objects.name(each) == name:
                return answers.one(core, request, served, documents.encode(each))
        place = f"{request.info.namespace}/{name}" if served.resource.namespaced else name
        noun = served.resource.kind.lower()
        raise errors.NotFound(f'{noun}.{served.resource.group} "{place}" not found')
    records = [
        Record(served.key(objects.namespace(each), objects.name(each)), 0, documents.encode(each))
        for each in _selected(served, chosen, metrics)
    ]
    return answers.many(core, request, served, Listing(records, core.store.revision))


def _selected(served: Served, chosen: selecting.Selection, metrics: list[Object]) -> Iterator[Object]:
    for each in sorted(metrics, key=lambda each: (objects.namespace(each), objects.name(each))):
        if chosen.label.matches(objects.labels(each)) and fields.matches(chosen.field, served.resource, each):
            yield each

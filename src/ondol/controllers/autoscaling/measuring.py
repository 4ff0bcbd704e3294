"""One metric of an autoscaler: asked for, turned into a number of replicas, and told in the status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import labels
from ondol.api.objects import Object
from ondol.base import quantity
from ondol.controllers.autoscaling import sizing
from ondol.controllers.autoscaling.metrics_apis import MetricsApis
from ondol.controllers.autoscaling.sizing import CannotMeasure, Usage

_REASONS: Final = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
    "External": "FailedGetExternalMetric",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled: its size by its spec and by its status, its pods and how they are selected."""

    namespace: str
    replicas: int
    running: int
    selector: labels.Selector
    selected: list[Object]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one metric calls for, how it is named in events, and its entry in `currentMetrics`."""

    replicas: int
    name: str
    status: Object


def failure_reason(metric: Mapping[str, Any]) -> str:
    return _REASONS.get(str(metric.get("type")), "InvalidMetricSourceType")


def failure_message(metric: Mapping[str, Any], error: CannotMeasure) -> str:
    """The error, with which metric it is of."""
    match metric.get("type"):
        case "Resource":
            return f"failed to get {metric['resource']['name']} resource metric value: {error}"
        case "ContainerResource":
            return f"failed to get {metric['containerResource']['container']} container metric value: {error}"
        case "External":
            return f"failed to get {metric['external']['metric']['name']} external metric value: {error}"
        case "Object" | "Pods" as kind:
            return f"failed to get {kind.lower()} metric value: {error}"
    return str(error)


class Measuring:
    """`CannotMeasure` where a metric is not to be had."""

    def __init__(self, apis: MetricsApis) -> None:
        self._apis = apis

    async def measure(self, metric: Mapping[str, Any], target: Target, now: float) -> Measurement:
        match metric.get("type"):
            case "Resource":
                return await self._resource("resource", metric["resource"], target, now)
            case "ContainerResource":
                return await self._resource("containerResource", metric["containerResource"], target, now)
            case "Pods":
                return await self._pods(metric["pods"], target, now)
            case "Object":
                return await self._object(metric["object"], target)
            case "External":
                return await self._external(metric["external"], target)
        raise CannotMeasure(f'unknown metric source type "{metric.get("type")}"')

    async def _resource(
        self, field: str, source: Mapping[str, Any], target: Target, now: float
    ) -> Measurement:
        name, asked = str(source["name"]), source["target"]
        usage = Usage(name, now, str(source.get("container") or ""))
        whole = asked.get("averageUtilization")
        try:
            samples = await self._apis.of_resource(target.namespace, target.selector, usage)
            if asked.get("averageValue") is not None:
                proposal = sizing.per_pod(
                    target.replicas, _amount(asked, "averageValue"), samples, target.selected, usage
                )
                current: Object = {}
                words = f"{name} resource"
            else:
                proposal = sizing.utilization(target.replicas, int(whole), samples, target.selected, usage)
                current = {"averageUtilization": proposal.percent}
                kind = "container resource" if usage.container else "resource"
                words = f"{name} {kind} utilization (percentage of request)"
        except CannotMeasure as error:
            noun = "usage" if asked.get("averageValue") is not None else "utilization"
            raise CannotMeasure(f"failed to get {name} {noun}: {error}") from error
        current["averageValue"] = _memory(proposal.average) if name == "memory" else _plain(proposal.average)
        shown = {key: source[key] for key in ("name", "container") if source.get(key)}
        return Measurement(proposal.replicas, words, _entry(field, {**shown, "current": current}))

    async def _pods(self, source: Mapping[str, Any], target: Target, now: float) -> Measurement:
        metric = source["metric"]
        samples = await self._apis.of_pods(target.namespace, target.selector, metric)
        proposal = sizing.per_pod(
            target.replicas,
            _amount(source["target"], "averageValue"),
            samples,
            target.selected,
            Usage("", now),
        )
        shown = {"metric": dict(metric), "current": {"averageValue": _plain(proposal.average)}}
        return Measurement(proposal.replicas, f"pods metric {metric['name']}", _entry("pods", shown))

    async def _object(self, source: Mapping[str, Any], target: Target) -> Measurement:
        metric, described = source["metric"], source["describedObject"]
        amount = await self._apis.of_object(target.namespace, described, metric)
        replicas, current = _shared_out(source["target"], amount, target)
        shown = {"metric": dict(metric), "describedObject": dict(described), "current": current}
        return Measurement(replicas, f"{described['kind']} metric {metric['name']}", _entry("object", shown))

    async def _external(self, source: Mapping[str, Any], target: Target) -> Measurement:
        metric = source["metric"]
        amount = await self._apis.of_outside(target.namespace, metric)
        replicas, current = _shared_out(source["target"], amount, target)
        shown = {"metric": dict(metric), "current": current}
        return Measurement(replicas, f"external metric {metric['name']}", _entry("external", shown))


def _shared_out(asked: Mapping[str, Any], amount: int, target: Target) -> tuple[int, Object]:
    """The replicas for a metric that is not of the pods, and what is told of it."""
    if asked.get("averageValue") is not None:
        proposal = sizing.of_share(target.running, _amount(asked, "averageValue"), amount)
        return proposal.replicas, {"averageValue": _plain(proposal.average)}
    replicas = sizing.of_value(target.replicas, _amount(asked, "value"), amount, target.selected)
    return replicas, {"value": _plain(amount)}


def _entry(field: str, shown: Object) -> Object:
    return {"type": field[0].upper() + field[1:], field: shown}


def _amount(asked: Mapping[str, Any], field: str) -> int:
    return quantity.milli_of(asked[field])


def _plain(milli: int) -> str:
    return quantity.canonical(f"{milli}m")


def _memory(milli: int) -> str:
    """Of whole bytes with a binary suffix, as the metrics server tells it."""
    return (
        quantity.canonical(f"{milli // 1000}")
        if milli % 1024_000
        else quantity.canonical(f"{milli // 1024_000}Ki")
    )

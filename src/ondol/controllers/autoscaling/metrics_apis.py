"""What autoscalers measure, asked of the three metrics APIs: of resources, of objects, of the outside.

The first is answered by the platform itself; the others by whoever installed a server for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import labels, objects, pods
from ondol.api.objects import Object, Resource
from ondol.base import durations, errors, quantity
from ondol.client import Client
from ondol.controllers.autoscaling.sizing import CannotMeasure, Sample, Usage

POD_METRICS: Final = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics")
_CUSTOM: Final = "/apis/custom.metrics.k8s.io/{}"
_CUSTOM_VERSIONS: Final = ("v1beta2", "v1beta1")
_EXTERNAL: Final = "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}"
_WINDOW_S: Final = 60.0
"""Of a custom metric that does not tell its own."""


class MetricsApis:
    """Amounts in thousandths; `CannotMeasure` has the reason where there are none."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of_resource(self, namespace: str, selector: labels.Selector, usage: Usage) -> dict[str, Sample]:
        """What the selected pods use, by name; pods that do not tell of all their containers are left out."""
        try:
            listed = await self._client.list(POD_METRICS, namespace, label_selector=str(selector))
        except errors.ApiError as error:
            raise _unread(f"metrics for resource {usage.resource}", "resource", error) from error
        if not listed.items:
            raise CannotMeasure(
                f"unable to get metrics for resource {usage.resource}: "
                "no metrics returned from resource metrics API"
            )
        return resource_samples(listed.items, usage)

    async def of_pods(
        self, namespace: str, selector: labels.Selector, metric: Mapping[str, Any]
    ) -> dict[str, Sample]:
        """A metric that each of the selected pods has, by name."""
        path = f"/namespaces/{namespace}/pods/*/{metric['name']}"
        items = await self._custom(path, metric, {"labelSelector": str(selector)})
        return {str(item["describedObject"]["name"]): _sample(item) for item in items}

    async def of_object(self, namespace: str, reference: Mapping[str, Any], metric: Mapping[str, Any]) -> int:
        """A metric of one object of the namespace, or of the namespace itself."""
        kind, name = str(reference["kind"]), str(reference["name"])
        api_version = str(reference.get("apiVersion") or "v1")
        if kind == "Namespace" and api_version == "v1":
            path = f"/namespaces/{namespace}/metrics/{metric['name']}"
        else:
            plural = await self._plural(api_version, kind)
            path = f"/namespaces/{namespace}/{plural}/{name}/{metric['name']}"
        try:
            items = await self._custom(path, metric, {})
        except CannotMeasure as error:
            raise CannotMeasure(f"{error} on {kind} {namespace}/{name}") from error
        return quantity.milli_of(items[0]["value"])

    async def _plural(self, api_version: str, kind: str) -> str:
        try:
            return (await self._client.resource_for(api_version, kind)).group_resource
        except errors.ApiError as error:
            raise CannotMeasure(f"unable to get metric: {error.message}") from error

    async def _custom(
        self, path: str, metric: Mapping[str, Any], query: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        chosen = {**query, **_chosen("metricLabelSelector", metric)}
        failure: errors.ApiError | None = None
        for version in _CUSTOM_VERSIONS:
            try:
                answer = await self._client.read(_CUSTOM.format(version) + path, query=chosen)
            except errors.NotFound as error:
                failure = failure or error
                continue
            except errors.ApiError as error:
                failure = error
                break
            return _items(answer, metric, "custom")
        raise _unread(f"metric {metric['name']}", "custom", failure or errors.NotFound("not served"))

    async def of_outside(self, namespace: str, metric: Mapping[str, Any]) -> int:
        """The sum of all values of a metric that belongs to no object here."""
        place = f"external metric {namespace}/{metric['name']}/{_text(metric) or 'nil'}"
        path = _EXTERNAL.format(namespace, metric["name"])
        try:
            answer = await self._client.read(path, query=_chosen("labelSelector", metric))
        except errors.ApiError as error:
            raise _unread(place, "external", error) from error
        return sum(quantity.milli_of(item["value"]) for item in _items(answer, metric, "external"))


def _unread(what: str, api: str, error: errors.ApiError) -> CannotMeasure:
    why = f"unable to fetch metrics from {api} metrics API: {error.message}"
    return CannotMeasure(f"unable to get {what}: {why}")


def _items(answer: Object, metric: Mapping[str, Any], api: str) -> list[Mapping[str, Any]]:
    items = list(answer.get("items") or ())
    if not items:
        raise CannotMeasure(
            f"unable to get metric {metric['name']}: no metrics returned from {api} metrics API"
        )
    return items


def _chosen(parameter: str, metric: Mapping[str, Any]) -> dict[str, str]:
    text = _text(metric)
    return {parameter: text} if text else {}


def _text(metric: Mapping[str, Any]) -> str:
    return str(labels.from_document(metric["selector"])) if metric.get("selector") else ""


def resource_samples(items: Iterable[Mapping[str, Any]], usage: Usage) -> dict[str, Sample]:
    """What pods use, from their PodMetrics: the sum over their containers, or of the one that is named."""
    samples: dict[str, Sample] = {}
    for item in items:
        containers = [each for each in item["containers"] if usage.container in ("", str(each["name"]))]
        amounts = [each["usage"].get(usage.resource) for each in containers]
        if amounts and None not in amounts:
            window_s = float(durations.nanoseconds(item["window"])) / 1e9
            at = pods.moment(item["timestamp"]) or 0.0
            samples[objects.name(item)] = Sample(sum(map(quantity.milli_of, amounts)), at, window_s)
    return samples


def _sample(item: Mapping[str, Any]) -> Sample:
    window_s = item.get("windowSeconds")
    at = pods.moment(item.get("timestamp")) or 0.0
    return Sample(quantity.milli_of(item["value"]), at, _WINDOW_S if window_s is None else float(window_s))

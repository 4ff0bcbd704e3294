"""Labels and annotations of Knative, and the autoscaling ones read into a `Scaling`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from ondol.api import objects
from ondol.base import durations, errors
from ondol.contracts import serving
from ondol.serverless.autoscaler.decide import Scaling

Number = TypeVar("Number", int, float)

SERVING: Final = f"{serving.GROUP}/"
AUTOSCALING: Final = "autoscaling.knative.dev/"

SERVICE_LABEL: Final = serving.SERVICE_LABEL
SERVICE_UID_LABEL: Final = SERVING + "serviceUID"
CONFIGURATION_LABEL: Final = serving.CONFIGURATION_LABEL
CONFIGURATION_UID_LABEL: Final = SERVING + "configurationUID"
CONFIGURATION_GENERATION_LABEL: Final = SERVING + "configurationGeneration"
REVISION_LABEL: Final = serving.REVISION_LABEL
REVISION_UID_LABEL: Final = SERVING + "revisionUID"
ROUTE_LABEL: Final = serving.ROUTE_LABEL
LAST_PINNED: Final = SERVING + "lastPinned"
NO_GC: Final = SERVING + "no-gc"
DOMAIN_LABEL: Final = SERVING + "domainMappingName"
ROUTING_STATE_LABEL: Final = SERVING + "routingState"
ROUTING_STATE_MODIFIED: Final = SERVING + "routingStateModified"
ROUTES_ANNOTATION: Final = SERVING + "routes"
PROGRESS_DEADLINE: Final = SERVING + "progress-deadline"
ROLLOUT_DURATIONS: Final = (SERVING + "rollout-duration", SERVING + "rolloutDuration")
CREATOR: Final = SERVING + "creator"
LAST_MODIFIER: Final = SERVING + "lastModifier"
VISIBILITY: Final = "networking.knative.dev/visibility"
CLUSTER_LOCAL: Final = "cluster-local"

# Spellings from before annotations were written in kebab case (knative/serving autoscaling/register.go).
_OLD_SPELLINGS: Final = {
    "initialScale": "initial-scale",
    "minScale": "min-scale",
    "maxScale": "max-scale",
    "scaleDownDelay": "scale-down-delay",
    "targetUtilizationPercentage": "target-utilization-percentage",
    "targetBurstCapacity": "target-burst-capacity",
    "panicWindowPercentage": "panic-window-percentage",
    "panicThresholdPercentage": "panic-threshold-percentage",
    "scaleToZeroPodRetentionPeriod": "scale-to-zero-pod-retention-period",
    "metricAggregationAlgorithm": "metric-aggregation-algorithm",
}
_ANNOTATIONS: Final = {
    "class",
    "metric",
    "target",
    "target-utilization-percentage",
    "min-scale",
    "max-scale",
    "initial-scale",
    "activation-scale",
    "window",
    "panic-window-percentage",
    "panic-threshold-percentage",
    "target-burst-capacity",
    "scale-down-delay",
    "scale-to-zero-pod-retention-period",
    "metric-aggregation-algorithm",
}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_INT32_MAX: Final = 2**31 - 1
KPA: Final = "kpa.autoscaling.knative.dev"
HPA: Final = "hpa.autoscaling.knative.dev"
CLASSES: Final[Mapping[str, tuple[str, ...]]] = {KPA: ("concurrency", "rps"), HPA: ("cpu", "memory")}
"""The classes of autoscalers, each with the metrics it knows, the usual one first."""


def generation_of(revision: Mapping[str, Any]) -> int:
    """Which generation of its Configuration a Revision was stamped out of."""
    return int(objects.labels(revision).get(CONFIGURATION_GENERATION_LABEL) or 0)


def duration_s(text: str) -> float:
    """Seconds of a Go duration such as `1m30s`; `ValueError` if it is not one."""
    return float(durations.nanoseconds(text) / 1_000_000_000)


def whole_s(text: str) -> float:
    """Seconds of a Go duration that has no fraction of one; `ValueError` if it is not that."""
    seconds = duration_s(text)
    if seconds != int(seconds):
        raise ValueError(f"{text!r} must be a whole number of seconds")
    return seconds


def scaling(
    annotations: Mapping[str, str], *, container_concurrency: int, defaults: Scaling | None = None
) -> tuple[Scaling, list[errors.Cause]]:
    """What a revision's annotations ask for, and every value that cannot be honoured.

    A wrong value is refused when a Service is written; in a Revision that has one nevertheless the
    default holds.
    """
    base = defaults or Scaling()
    normalised = _normalised(annotations)
    reader = _Reader(normalised)
    class_ = reader.choice("class", tuple(CLASSES), base.autoscaler_class)
    metric = reader.choice("metric", CLASSES[class_], CLASSES[class_][0])
    reader.choice("metric-aggregation-algorithm", ("linear",), "linear")
    min_scale = reader.whole("min-scale", 0, base.min_scale)
    max_scale = reader.whole("max-scale", 0, base.max_scale)
    if max_scale and max_scale < min_scale:
        reader.refuse("max-scale", f"{max_scale} is less than min-scale {min_scale}")
        max_scale = 0
    max_scale = reader.limited("max-scale", max_scale, base.max_scale_limit)
    activation_scale = reader.whole("activation-scale", 2, base.activation_scale)
    if activation_scale and activation_scale < min_scale:
        reader.refuse("activation-scale", f"{activation_scale} is less than min-scale {min_scale}")
        activation_scale = 0
    if max_scale and activation_scale > max_scale:
        reader.refuse("activation-scale", f"{activation_scale} is more than max-scale {max_scale}")
        activation_scale = 0
    if metric == "memory" and "target" not in normalised:
        reader.refuse("target", "must be given beside the metric memory: how many MiB a pod should use")
    least_initial = 0 if base.allow_zero_initial and class_ == KPA else 1
    settings = replace(
        base,
        autoscaler_class=class_,
        metric=metric,
        target=reader.number("target", 0.01, None, _usual_target(metric, container_concurrency, base)),
        utilization=reader.number("target-utilization-percentage", 1, 100, base.utilization * 100) / 100,
        container_concurrency=container_concurrency,
        min_scale=min_scale,
        max_scale=max_scale,
        initial_scale=reader.whole("initial-scale", least_initial, max(base.initial_scale, least_initial)),
        activation_scale=activation_scale,
        window_s=round(reader.duration("window", 6, 3600, base.window_s)),
        panic_window_percent=reader.number("panic-window-percentage", 1, 100, base.panic_window_percent),
        panic_threshold=reader.number("panic-threshold-percentage", 110, 1000, base.panic_threshold * 100)
        / 100,
        burst_capacity=reader.burst("target-burst-capacity", base.burst_capacity),
        scale_down_delay_s=reader.duration("scale-down-delay", 0, 3600, base.scale_down_delay_s),
        retention_s=reader.fraction("scale-to-zero-pod-retention-period", 0, 3600, base.retention_s),
        progress_deadline_s=_progress_deadline_s(annotations, reader, base.progress_deadline_s),
    )
    return settings, reader.causes


def _usual_target(metric: str, container_concurrency: int, base: Scaling) -> float:
    """What holds without a target: for concurrency the hard limit, if there is one."""
    if metric == "rps":
        return base.rps_target
    if metric in CLASSES[HPA]:
        return 0.0  # then the HorizontalPodAutoscaler's own holds
    return float(container_concurrency) or base.target


def unknown(annotations: Mapping[str, str]) -> list[str]:
    """The autoscaling annotations that mean nothing to anybody."""
    return sorted(
        key
        for key in annotations
        if key.startswith(AUTOSCALING)
        and _OLD_SPELLINGS.get(key.removeprefix(AUTOSCALING), key.removeprefix(AUTOSCALING))
        not in _ANNOTATIONS
    )


def rollout_s(annotations: Mapping[str, str], default_s: float) -> float:
    """Over how long traffic moves to a new revision; 0 is at once, as is what cannot be read."""
    text = next((annotations[key] for key in ROLLOUT_DURATIONS if annotations.get(key)), "")
    if not text:
        return default_s
    try:
        return whole_s(text) or default_s
    except ValueError:
        return default_s


def _progress_deadline_s(annotations: Mapping[str, str], reader: _Reader, default: float) -> float:
    text = annotations.get(PROGRESS_DEADLINE)
    if text is None:
        return default
    try:
        seconds = whole_s(text)
    except ValueError as error:
        reader.causes.append(_cause(PROGRESS_DEADLINE, str(error)))
        return default
    if seconds < 1:
        reader.causes.append(_cause(PROGRESS_DEADLINE, f"{text!r} must be at least 1s"))
        return default
    return seconds


def _normalised(annotations: Mapping[str, str]) -> dict[str, str]:
    by_key = {k.removeprefix(AUTOSCALING): v for k, v in annotations.items() if k.startswith(AUTOSCALING)}
    return {_OLD_SPELLINGS.get(key, key): value for key, value in by_key.items()}


def _whole(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _cause(key: str, why: str) -> errors.Cause:
    return errors.Cause("FieldValueInvalid", why, f"spec.template.metadata.annotations[{key}]")


class _Reader:
    """Reads typed values out of strings and keeps account of what was wrong."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self.causes: list[errors.Cause] = []

    def refuse(self, key: str, why: str) -> None:
        self.causes.append(_cause(AUTOSCALING + key, why))

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        text = self._texts.get(key, default)
        if text in allowed:
            return text
        self.refuse(key, f"{text!r} is not supported; use {' or '.join(allowed)}")
        return default

    def whole(self, key: str, least: int, default: int) -> int:
        return self._read(key, _whole, least, _INT32_MAX, default)

    def limited(self, key: str, value: int, limit: int) -> int:
        """A number of replicas that the whole platform's limit (0 is none) allows."""
        if not limit or key not in self._texts or 0 < value <= limit:
            return value
        shown = f"{value} (unlimited)" if value == 0 else str(value)
        self.refuse(key, f"{shown} must be at least 1 and at most max-scale-limit {limit}")
        return limit

    def number(self, key: str, least: float, most: float | None, default: float) -> float:
        return self._read(key, float, least, most, default)

    def burst(self, key: str, default: float) -> float:
        """Requests, or -1 alone of what is less than none."""
        value = self._read(key, float, -1, None, default)
        if -1 < value < 0:
            self.refuse(key, f"{self._texts[key]!r} must be -1 or at least 0")
            return default
        return value

    def fraction(self, key: str, least: float, most: float, default: float) -> float:
        return self._read(key, duration_s, least, most, default)

    def duration(self, key: str, least: float, most: float, default: float) -> float:
        return self._read(key, whole_s, least, most, default)

    def _read(
        self, key: str, parse: Callable[[str], Number], least: float, most: float | None, default: Number
    ) -> Number:
        text = self._texts.get(key)
        if text is None:
            return default
        try:
            value = parse(text)
        except ValueError:
            self.refuse(key, f"{text!r} is not a valid value")
            return default
        if not math.isfinite(value):
            self.refuse(key, f"{text!r} is not a finite number")
            return default
        if value < least or (most is not None and value > most):
            limits = f"at least {least:g}" if most is None else f"between {least:g} and {most:g}"
            self.refuse(key, f"{text!r} must be {limits}")
            return default
        return value

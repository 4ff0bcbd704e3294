"""Rules of DaemonSets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields, pods, workloads
from ondol.base.errors import Cause


def daemon_set(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    template = spec.get("template") or {}
    yield from workloads.selected(spec.get("selector"), template, "daemonset", required=False)
    yield from pods.template(template, "spec.template")
    yield from workloads.staying(template, "DaemonSet")
    yield from fields.non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    yield from _strategy(spec.get("updateStrategy") or {})
    yield from fields.non_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _strategy(strategy: Mapping[str, Any]) -> Iterator[Cause]:
    path, kind = "spec.updateStrategy", strategy.get("type") or ""
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        yield causes.not_supported(path, dict(strategy), ("RollingUpdate", "OnDelete"))
        return
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        yield causes.required(f"{path}.rollingUpdate")
        return
    path = f"{path}.rollingUpdate"
    for field in ("maxUnavailable", "maxSurge"):
        yield from fields.int_or_percent(f"{path}.{field}", rolling.get(field, 0))
    for field in ("maxUnavailable", "maxSurge"):
        yield from fields.at_most_100_percent(f"{path}.{field}", rolling.get(field))
    waits, surges = (not fields.is_zero(rolling.get(f, 0)) for f in ("maxUnavailable", "maxSurge"))
    if waits and surges:
        detail = "may not be set when maxUnavailable is non-zero"
        yield causes.invalid(f"{path}.maxSurge", rolling.get("maxSurge"), detail)
    elif not waits and not surges:
        yield causes.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")

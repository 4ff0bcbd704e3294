"""Rules of PodDisruptionBudgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields, workloads
from ondol.base.errors import Cause

_POLICIES: Final = ("AlwaysAllow", "IfHealthyBudget")


def budget(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield causes.invalid("spec", dict(spec), "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        yield from fields.int_or_percent(f"spec.{field}", spec.get(field))
        yield from fields.at_most_100_percent(f"spec.{field}", spec.get(field))
    if spec.get("selector") is not None:
        yield from workloads.label_selector(spec["selector"], "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _POLICIES:
        yield causes.not_supported("spec.unhealthyPodEvictionPolicy", policy, _POLICIES)

"""Defaults of HorizontalPodAutoscalers."""

from __future__ import annotations

import copy
from typing import Any, Final

from ondol.api import autoscaling

_ALL: Final = {"type": "Percent", "value": 100, "periodSeconds": 15}
_UP: Final[dict[str, Any]] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, _ALL],
}
_DOWN: Final[dict[str, Any]] = {"selectPolicy": "Max", "policies": [_ALL]}


def v1(document: Any) -> None:
    """Of version 1; what it says of metrics is completed where it is stored."""
    document["spec"].setdefault("minReplicas", 1)


def v2(document: Any) -> None:
    spec = document["spec"]
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [autoscaling.cpu_metric()]
    behavior = spec.get("behavior")
    if behavior is not None:
        for field, rules in (("scaleUp", _UP), ("scaleDown", _DOWN)):
            behavior[field] = {**copy.deepcopy(rules), **(behavior.get(field) or {})}

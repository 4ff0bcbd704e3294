"""Revisions of the class `hpa`: a HorizontalPodAutoscaler scales them by cpu or memory, never to zero. Pure.

What it does not do is left to the autoscaler here: the first replicas, and who stands in the endpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.serverless.autoscaler import scaler
from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.autoscaler.scaler import Facts, Plan
from ondol.serverless.serving import wellknown

_NO_LIMIT: Final = 2**31 - 1


def is_asked_for(scaling: Scaling) -> bool:
    return scaling.autoscaler_class == wellknown.HPA


def plan(facts: Facts) -> Plan:
    """As many as there are, but one at least, and at first as many as make the revision ready."""
    least = max(1, scaler.initial_replicas(facts.scaling, reachable=facts.reachable))
    replicas = max(facts.replicas, 1 if facts.initialized else least)
    if facts.ready == 0 or not facts.initialized:
        text = "Requests to the target are being buffered as resources are provisioned."
        mode: scaler.Mode = "Serve" if facts.ready and scaler.may_serve(facts) else "Proxy"
        return Plan(replicas, mode, "True" if facts.initialized else "Unknown", "Queued", text)
    return Plan(replicas, "Serve" if scaler.may_serve(facts) else "Proxy", "True")


def document(autoscaler: Mapping[str, Any], scaling: Scaling, *, reachable: bool) -> Object:
    """The HorizontalPodAutoscaler of a PodAutoscaler; without a target Kubernetes' own default holds."""
    name = objects.name(autoscaler)
    spec: Object = {
        "scaleTargetRef": dict(objects.spec(autoscaler)["scaleTargetRef"]),
        "minReplicas": max(1, scaling.min_scale if reachable else 0),
        "maxReplicas": scaling.max_scale or _NO_LIMIT,
    }
    if scaling.target:
        spec["metrics"] = [{"type": "Resource", "resource": _resource(scaling)}]
    if _names_window(autoscaler):
        window = {"stabilizationWindowSeconds": scaling.window_s}
        spec["behavior"] = {"scaleDown": window, "scaleUp": window}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": name,
            "namespace": objects.namespace(autoscaler),
            "labels": {wellknown.REVISION_LABEL: name},
            "annotations": dict(objects.annotations(autoscaler)),
            "ownerReferences": [objects.controller_reference(autoscaler)],
        },
        "spec": spec,
    }


def _resource(scaling: Scaling) -> Object:
    """The target of cpu is percent of what is requested, that of memory MiB a pod."""
    if scaling.metric == "cpu":
        return {
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": math.ceil(scaling.target)},
        }
    return {"name": "memory", "target": {"type": "AverageValue", "averageValue": f"{int(scaling.target)}Mi"}}


def _names_window(autoscaler: Mapping[str, Any]) -> bool:
    return f"{wellknown.AUTOSCALING}window" in objects.annotations(autoscaler)

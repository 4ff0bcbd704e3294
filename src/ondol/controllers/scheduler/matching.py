"""Whether a node is one that a pod asks for, and whose taints it tolerates. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from ondol.api import labels, objects, pods
from ondol.controllers.scheduler.hosts import Host

BLOCKING: Final = ("NoSchedule", "NoExecute")
_OPERATORS: Final = {
    "In": labels.IN,
    "NotIn": labels.NOT_IN,
    "Exists": labels.EXISTS,
    "DoesNotExist": labels.DOES_NOT_EXIST,
    "Gt": labels.GREATER_THAN,
    "Lt": labels.LESS_THAN,
}


def is_selected(pod: Mapping[str, Any], host: Host) -> bool:
    """Whether the pod's node selector and what it requires of nodes hold."""
    selector = objects.spec(pod).get("nodeSelector") or {}
    if any(host.labels.get(key) != value for key, value in selector.items()):
        return False
    required = node_affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(term_matches(term, host) for term in required.get("nodeSelectorTerms") or ())


def node_affinity(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    affinity: Mapping[str, Any] = (objects.spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    return affinity


def term_matches(term: Mapping[str, Any], host: Host) -> bool:
    """All expressions of a term must hold; a term without any matches nothing."""
    on_labels, on_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    named = {"metadata.name": host.name}
    return bool(on_labels or on_fields) and (
        all(_expression_holds(each, host.labels) for each in on_labels)
        and all(_expression_holds(each, named) for each in on_fields)
    )


def _expression_holds(expression: Mapping[str, Any], node_labels: Mapping[str, str]) -> bool:
    operator = _OPERATORS.get(str(expression.get("operator")))
    if operator is None:
        return False
    values = tuple(sorted(set(expression.get("values") or ())))
    return labels.Requirement(str(expression.get("key")), operator, values).matches(node_labels)


def untolerated(
    pod: Mapping[str, Any], taints: Iterable[Mapping[str, Any]], effects: Collection[str] = BLOCKING
) -> Mapping[str, Any] | None:
    """The first taint with one of these effects that the pod does not tolerate."""
    for taint in taints:
        if taint.get("effect") in effects and not is_tolerated(pod, taint):
            return taint
    return None


def is_tolerated(pod: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    return any(pods.tolerates(each, taint) for each in objects.spec(pod).get("tolerations") or ())

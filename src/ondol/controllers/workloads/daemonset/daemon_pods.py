"""The pods of a DaemonSet: made for one node each, and whose revision they are of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.history import REVISION_LABEL
from ondol.controllers.workloads.podcontrol import pod_from_template

GENERATION_LABEL: Final = "pod-template-generation"
_GENERATION: Final = "deprecated.daemonset.template.generation"
_STAYING: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_PRESSED: Final = tuple(
    f"node.kubernetes.io/{cause}"
    for cause in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
)
_HOST_NETWORK: Final = "node.kubernetes.io/network-unavailable"
_NODE_NAME: Final = "metadata.name"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def tolerations(spec: Mapping[str, Any]) -> list[Object]:
    """The template's tolerations, and those of what happens to nodes, which no daemon leaves."""
    listed = [dict(each) for each in spec.get("tolerations") or ()]
    causes = [(key, "NoExecute") for key in _STAYING] + [(key, "NoSchedule") for key in _PRESSED]
    if spec.get("hostNetwork"):
        causes.append((_HOST_NETWORK, "NoSchedule"))
    for key, effect in causes:
        listed = _tolerating(listed, {"key": key, "operator": "Exists", "effect": effect})
    return listed


def _tolerating(listed: Sequence[Object], toleration: Object) -> list[Object]:
    """With the toleration: in place of one of the same taint, which may have had a time limit."""

    def matches(other: Mapping[str, Any]) -> bool:
        fields = ("key", "effect", "operator", "value")
        return all((other.get(field) or "") == (toleration.get(field) or "") for field in fields)

    if any(matches(each) for each in listed):
        return [toleration if matches(each) else each for each in listed]
    return [*listed, toleration]


def pod(daemon_set: Object, hashed: str, node: str, *, name: str = "") -> Object:
    """A new pod for this node alone, to which the scheduler binds it; of the revision of this hash."""
    labels = {REVISION_LABEL: hashed}
    if (generation := template_generation(daemon_set)) is not None:
        labels[GENERATION_LABEL] = generation
    template = objects.spec(daemon_set).get("template") or {}
    document = pod_from_template(daemon_set, template, name=name, labels=labels)
    spec = document["spec"]
    spec["tolerations"] = tolerations(spec)
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    named = {"key": _NODE_NAME, "operator": "In", "values": [node]}
    affinity[_REQUIRED] = {"nodeSelectorTerms": [{"matchFields": [named]}]}
    return document


def target_node(pod: Mapping[str, Any]) -> str:
    """The node the pod is bound to, or made for; empty for a pod of no node."""
    if bound := pods.node_name(pod):
        return bound
    affinity = (objects.spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if (field.get("key"), field.get("operator")) == (_NODE_NAME, "In"):
                values: list[str] = field.get("values") or []
                return values[0] if len(values) == 1 else ""
    return ""


def by_node(claimed: Iterable[Object]) -> dict[str, list[Object]]:
    """The pods by their nodes; without those that have ended and are being removed."""
    grouped: dict[str, list[Object]] = {}
    for pod in claimed:
        node = target_node(pod)
        if node and not (pods.is_terminal(pod) and objects.is_deleting(pod)):
            grouped.setdefault(node, []).append(pod)
    return grouped


def eldest_first(listed: Iterable[Object]) -> list[Object]:
    """Bound ones first, then by age."""
    return sorted(listed, key=lambda pod: (not pods.node_name(pod), pods.created_at(pod), objects.name(pod)))


def template_generation(daemon_set: Mapping[str, Any]) -> str | None:
    """The number of the template, counted by the API server; None where it is no number."""
    written = objects.annotations(daemon_set).get(_GENERATION, "")
    return str(int(written)) if written.isdecimal() else None


def is_updated(daemon_set: Mapping[str, Any], hashed: str, pod: Mapping[str, Any]) -> bool:
    """Whether the pod is of the present template."""
    labels, generation = objects.labels(pod), template_generation(daemon_set)
    if labels.get(REVISION_LABEL) == hashed:
        return True
    return generation is not None and labels.get(GENERATION_LABEL) == generation

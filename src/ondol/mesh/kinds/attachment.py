"""What findings of the security kinds share: which pods an object is for, and what stands twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import under
from ondol.mesh.kinds.kind import Finding, Progress, Word
from ondol.mesh.policy import selection
from ondol.mesh.translate.registry import Rule

GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"
"""The label of the pods of a Gateway of the Gateway API, where it has some."""
PROGRESS: Final[Mapping[Progress, Word]] = {
    Progress.UNUSED: Word("Unknown", "NotInUse", "no running pod of the mesh is what it is for"),
    Progress.RUNNING: Word("True", "Programmed", ""),
    Progress.EVADED: Word(
        "False",
        "ArrivalsNotTurned",
        "some pod that runs is open still: its node has not turned its calls to the proxy",
    ),
    Progress.PENDING: Word("Unknown", "Pending", "the proxy has not answered yet"),
    Progress.UNKNOWN: Word("Unknown", "Pending", "no proxy is connected"),
}


class Pods:
    """The pods of a world, by what is for them."""

    def __init__(self, dependencies: Dependencies) -> None:
        world = dependencies.world
        self._roots = dependencies.translation.registry.roots
        named = selection.names_services(world.rules)
        self._workloads = selection.Workloads(world.pods, world.services, names_services=named)

    def selected(self, rule: Rule[Any]) -> Iterator[Key]:
        """The pods an object is for."""
        return self._workloads.selected(rule, self._roots)


def without_pods(rule: Rule[Any], pods: Pods, code: str = "IST0127") -> Iterator[Finding]:
    """A selector or a target that is nobody's, with Istio's code for the kind."""
    spec = rule.spec
    has_selector = spec.selector is not None and bool(spec.selector.match_labels)
    if (has_selector or spec.targets) and next(pods.selected(rule), None) is None:
        what = f"labels {dict(spec.selector.match_labels)}" if has_selector else "targetRefs"
        yield from under(rule.origin, f"no pod is selected by its {what}", "KIA0004", code)


def of_gateways(rule: Rule[Any]) -> Iterator[Finding]:
    """A selector of the pods that a Gateway has elsewhere: here the proxy itself is all gateways."""
    selector = rule.spec.selector
    if selector is not None and GATEWAY_NAME in selector.match_labels and not rule.spec.targets:
        name = selector.match_labels[GATEWAY_NAME]
        text = f"the Gateway {name} has no pods to select here: what is for it names it in targetRefs"
        yield Finding(rule.origin, "IST0166", text)


def rivals(rules: Sequence[Rule[Any]], pods: Pods, plainly: str = "", closely: str = "") -> Iterator[Finding]:
    """More than one object without a selector in a namespace, or for one pod; with Istio's codes, if any."""
    plain: dict[str, list[Rule[Any]]] = {}
    selecting: dict[Key, list[Rule[Any]]] = {}
    for rule in sorted(rules, key=lambda rule: rule.age):
        if not (rule.spec.selector and rule.spec.selector.match_labels) and not rule.spec.targets:
            plain.setdefault(rule.namespace, []).append(rule)
        else:
            for key in pods.selected(rule):
                selecting.setdefault(key, []).append(rule)
    for namespace, members in plain.items():
        for rule, other in _others(members):
            text = f"namespace {namespace} has another without a selector: {other}"
            yield from under(rule.origin, text, *filter(None, ("KIA0002", plainly)))
    listed: dict[Finding, None] = {}
    for key, members in selecting.items():
        for rule, other in _others(members):
            text = f"pod {key} is selected by {other}, too"
            listed |= dict.fromkeys(under(rule.origin, text, *filter(None, ("KIA0003", closely))))
    yield from listed


def _others(members: Sequence[Rule[Any]]) -> Iterator[tuple[Rule[Any], str]]:
    for rule in members:
        others = [each for each in members if each is not rule]
        if others:
            yield rule, ", ".join(f"{each.namespace}/{each.origin.name}" for each in others)


def namespaces(dependencies: Dependencies) -> frozenset[str]:
    return frozenset(map(objects.name, dependencies.world.namespaces))

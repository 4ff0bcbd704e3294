"""Sidecar: what pods see of the mesh, and what becomes of their calls to all else.

Its validation is in `model.outside_validation`, its translation in `translate.views`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import mesh, scoping
from ondol.mesh import descriptions, outside_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import DEPRECATED, under
from ondol.mesh.kinds.kind import PROGRESS, Finding, Kind, Progress, Word
from ondol.mesh.model import outside, outside_validation
from ondol.mesh.translate import views
from ondol.mesh.translate.views import Sidecar


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    sidecars: list[Sidecar] = sorted(dependencies.world.sidecars, key=lambda each: each.age)
    plain: dict[str, list[Sidecar]] = {}
    for sidecar in sidecars:
        selector = sidecar.spec.workload_selector
        if selector is None or not selector.labels:
            plain.setdefault(sidecar.namespace, []).append(sidecar)
        else:
            yield from _selecting(sidecar, sidecars, dependencies)
        yield from _hosts(sidecar, dependencies)
    for members in plain.values():
        if len(members) > 1:
            oldest, *others = members
            names = ", ".join(each.origin.name for each in others)
            text = f"the Sidecars {names} have no selector either, are newer and without effect"
            yield Finding(oldest.origin, "IST0111", text)
            for other in others:
                text = f"the Sidecar {oldest.origin.name} has no selector either, is older and holds"
                yield from under(other.origin, text, "KIA0002", "IST0111")


def _selecting(sidecar: Sidecar, sidecars: list[Sidecar], dependencies: Dependencies) -> Iterator[Finding]:
    selector = views.chosen(sidecar).selector
    if sidecar.namespace == scoping.DEFAULTS:
        text = "with a selector it is for pods of its own namespace, and nobody else's default"
        yield Finding(sidecar.origin, "KIA1006", text)
    pods = [
        pod
        for pod in dependencies.world.pods
        if objects.namespace(pod) == sidecar.namespace and selector.items() <= objects.labels(pod).items()
    ]
    if not pods:
        text = f"no pod has the labels {dict(selector)}"
        yield from under(sidecar.origin, text, "KIA0004", "IST0101")
    holding = {views.closest(sidecars, sidecar.namespace, objects.labels(pod)) for pod in pods}
    for other in holding - {sidecar}:
        if other is not None:
            text = f"pods that it selects are under the Sidecar {other.origin.name}, which is older"
            yield from under(sidecar.origin, text, "KIA0003", "IST0110")
    if sidecar in holding:
        yield from _overridden(sidecar, sidecars, pods)


def _overridden(sidecar: Sidecar, sidecars: list[Sidecar], pods: list[Object]) -> Iterator[Finding]:
    """Newer ones that select some of the pods that this one holds for."""
    for other in sidecars[sidecars.index(sidecar) + 1 :]:
        selector = views.chosen(other).selector
        if not selector or other.namespace != sidecar.namespace:
            continue
        if any(selector.items() <= objects.labels(pod).items() for pod in pods):
            text = (
                f"pods that it selects are selected by the Sidecar {other.origin.name}, too, which is newer"
            )
            yield Finding(sidecar.origin, "IST0110", text)


def _hosts(sidecar: Sidecar, dependencies: Dependencies) -> Iterator[Finding]:
    """Hosts by name that nobody has."""
    registry = dependencies.translation.registry
    for listener in views.egress(sidecar.spec):
        for pattern in listener.hosts:
            name = pattern.partition("/")[2].lower()
            if "*" in name or pattern.startswith("~"):
                continue
            if not any(
                scoping.admits([listener], sidecar.namespace, service.key.namespace, service.host)
                for service in _of_name(registry.everything(), name)
            ):
                yield Finding(sidecar.origin, "KIA1004", f"spec.egress: no service has the host {pattern}")


def _of_name(services: Any, name: str) -> Iterator[Any]:
    return (service for service in services if service.host == name)


def _alone(sidecar: Sidecar) -> Iterator[Finding]:
    policy = sidecar.spec.outbound_traffic_policy
    if policy is not None and policy.egress_proxy is not None:
        text = "spec.outboundTrafficPolicy.egressProxy is deprecated"
        yield Finding(sidecar.origin, DEPRECATED, text)
    if policy is not None and policy.mode is None:
        text = "spec.outboundTrafficPolicy has no mode: REGISTRY_ONLY holds"
        yield Finding(sidecar.origin, "KIA1007", text)


KIND: Final[Kind[Any]] = Kind(
    resource=mesh.SIDECAR,
    short_name="sc",
    description="What pods see of the mesh, and what becomes of their calls to all else.",
    spec=outside.SidecarSpec,
    fields={**descriptions.FIELDS, **outside_descriptions.FIELDS},
    validate=outside_validation.sidecar,
    alone=_alone,
    survey=_survey,
    progress={
        **PROGRESS,
        Progress.UNUSED: Word("Unknown", "NotInUse", "no pod that runs is under it"),
    },
)

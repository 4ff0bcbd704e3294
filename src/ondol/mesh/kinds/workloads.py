"""WorkloadEntry and WorkloadGroup: processes that are no pods, and what those of a kind have in common.

Their validation is in `model.outside_validation`; that they are endpoints, in `translate.provided`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.contracts import mesh
from ondol.mesh import descriptions, outside_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.kind import PROGRESS, Column, Finding, Kind, Progress, Word
from ondol.mesh.model import outside, outside_validation
from ondol.mesh.translate.provided import WorkloadEntry
from ondol.mesh.translate.registry import Rule

_NAMED: Final = {**descriptions.FIELDS, **outside_descriptions.FIELDS}
_SERVED: Final = Word("True", "Programmed", "it is an endpoint of what selects it")


def _no_names(_rule: Rule[Any], _cluster_domain: str) -> tuple[str, ...]:
    return ()


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    """Workloads that nothing selects: nobody calls them."""
    registry = dependencies.translation.registry
    selectors: dict[str, list[Mapping[str, str]]] = {}
    for service in registry.services.values():
        if service.selector:
            selectors.setdefault(service.key.namespace, []).append(service.selector)
    for rule in dependencies.world.of(mesh.SERVICE_ENTRY.kind):
        if rule.spec.workload_selector is not None:
            selectors.setdefault(rule.namespace, []).append(rule.spec.workload_selector.labels)
    for entry in dependencies.world.of(mesh.WORKLOAD_ENTRY.kind):
        if not _is_selected(entry, selectors.get(entry.namespace, [])):
            text = "no Service and no ServiceEntry of its namespace selects its labels: nobody calls it"
            yield Finding(entry.origin, "KIA0004", text)


def _is_selected(entry: WorkloadEntry, selectors: list[Mapping[str, str]]) -> bool:
    return any(selector.items() <= entry.spec.labels.items() for selector in selectors)


ENTRY: Final[Kind[Any]] = Kind(
    resource=mesh.WORKLOAD_ENTRY,
    short_name="we",
    description="A process that is no pod, as an endpoint of the Services and ServiceEntries that select it.",
    spec=outside.WorkloadEntrySpec,
    fields=_NAMED,
    columns=(Column("Address", ".spec.address"),),
    validate=outside_validation.workload_entry,
    names=_no_names,
    survey=_survey,
    progress={**PROGRESS, Progress.UNUSED: _SERVED},
)
GROUP: Final[Kind[Any]] = Kind(
    resource=mesh.WORKLOAD_GROUP,
    short_name="wg",
    description="What WorkloadEntries of a kind have in common, for who makes them.",
    spec=outside.WorkloadGroupSpec,
    fields=_NAMED,
    validate=outside_validation.workload_group,
    names=_no_names,
    progress={
        **PROGRESS,
        Progress.UNUSED: Word("True", "Programmed", "a template: nothing is made of it by itself"),
    },
)

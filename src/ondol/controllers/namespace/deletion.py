"""The conditions of a namespace while it is being emptied. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ondol.api import conditions
from ondol.api.objects import Object

CONDITIONS: Final = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
)


@dataclass(slots=True)
class Remains:
    """What is left in a namespace: objects and finalizers counted, and what could not be deleted."""

    objects: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    undiscovered: tuple[str, ...] = ()
    """Group versions of which nobody says what there is of them."""

    @property
    def empty(self) -> bool:
        return not self.objects and not self.failures and not self.undiscovered


def deletion_conditions(namespace: Mapping[str, object], remains: Remains, now: float) -> list[Object]:
    """The five conditions of a deletion, in Kubernetes' words."""
    listed: list[Object] = [dict(condition) for condition in conditions.of(namespace)]
    for each in (_discovery(remains), _PARSED, _failure(remains), _remaining(remains), _finalizing(remains)):
        listed = conditions.set(
            listed, each.type, each.status, reason=each.reason, message=each.message, now=now
        )
    return listed


class _Condition(NamedTuple):
    type: str
    status: conditions.Status
    reason: str
    message: str


_DISCOVERED: Final = _Condition(
    "NamespaceDeletionDiscoveryFailure",
    "False",
    "ResourcesDiscovered",
    "All resources successfully discovered",
)
_PARSED: Final = _Condition(
    "NamespaceDeletionGroupVersionParsingFailure",
    "False",
    "ParsedGroupVersions",
    "All legacy kube types successfully parsed",
)


def _discovery(remains: Remains) -> _Condition:
    if not remains.undiscovered:
        return _DISCOVERED
    failing = ", ".join(f"{each}: stale GroupVersion discovery: {each}" for each in remains.undiscovered)
    message = (
        f"Discovery failed for some groups, {len(remains.undiscovered)} failing: "
        f"unable to retrieve the complete list of server APIs: {failing}"
    )
    return _Condition(_DISCOVERED.type, "True", "DiscoveryFailed", message)


def _failure(remains: Remains) -> _Condition:
    name = "NamespaceDeletionContentFailure"
    if remains.failures:
        failures = ", ".join(remains.failures)
        message = f"Failed to delete all resource types, {len(remains.failures)} remaining: {failures}"
        return _Condition(name, "True", "ContentDeletionFailed", message)
    message = "All content successfully deleted, may be waiting on finalization"
    return _Condition(name, "False", "ContentDeleted", message)


def _remaining(remains: Remains) -> _Condition:
    name = "NamespaceContentRemaining"
    if not remains.objects:
        return _Condition(name, "False", "ContentRemoved", "All content successfully removed")
    counted = ", ".join(f"{kind} has {n} resource instances" for kind, n in sorted(remains.objects.items()))
    return _Condition(name, "True", "SomeResourcesRemain", f"Some resources are remaining: {counted}")


def _finalizing(remains: Remains) -> _Condition:
    name = "NamespaceFinalizersRemaining"
    if not remains.finalizers:
        message = "All content-preserving finalizers finished"
        return _Condition(name, "False", "ContentHasNoFinalizers", message)
    counted = ", ".join(f"{each} in {n} resource instances" for each, n in sorted(remains.finalizers.items()))
    message = f"Some content in the namespace has finalizers remaining: {counted}"
    return _Condition(name, "True", "SomeFinalizersRemain", message)

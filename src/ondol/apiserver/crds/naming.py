"""Which names a definition gets, and what its status says of it. Pure.

Follows apiextensions `pkg/controller/status/naming_controller.go` and `establish`: within a group a
plural, singular, short name, kind or list kind belongs to one definition, first come, first served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object

NAMES_ACCEPTED: Final = "NamesAccepted"
ESTABLISHED: Final = "Established"


def status(crd: Object, others: Iterable[Object], now: float) -> Object:
    """The status a definition should have among the others of its group."""
    names = crd["spec"]["names"]
    accepted, problem = _accepted(names, crd, others)
    listed = conditions.of(crd)
    established = conditions.is_true(crd, ESTABLISHED)
    if problem is None:
        listed = conditions.set(
            listed, NAMES_ACCEPTED, "True", reason="NoConflicts", message="no conflicts found", now=now
        )
        listed = conditions.set(
            listed,
            ESTABLISHED,
            "True",
            reason="InitialNamesAccepted",
            message="the initial names have been accepted",
            now=now,
        )
    else:
        reason, message = problem
        listed = conditions.set(listed, NAMES_ACCEPTED, "False", reason=reason, message=message, now=now)
        if not established:
            listed = conditions.set(
                listed,
                ESTABLISHED,
                "False",
                reason="NotAccepted",
                message="not all names are accepted",
                now=now,
            )
    return {**objects.status(crd), "conditions": listed, "acceptedNames": accepted}


def _accepted(
    names: Mapping[str, Any], crd: Object, others: Iterable[Object]
) -> tuple[Object, tuple[str, str] | None]:
    resources, kinds = _taken(crd, others)
    before = objects.status(crd).get("acceptedNames") or {}
    accepted: Object = {**names}
    problem: tuple[str, str] | None = None
    for field, taken, reason in (
        ("plural", resources, "PluralConflict"),
        ("singular", resources, "SingularConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):
        name = names.get(field) or ""
        if name in taken:
            problem = (reason, f'"{name}" is already in use')
            accepted[field] = before.get(field) or ""
    for name in names.get("shortNames") or ():
        if name in resources:
            problem = ("ShortNamesConflict", f'"{name}" is already in use')
            accepted["shortNames"] = before.get("shortNames") or []
    return accepted, problem


def _taken(crd: Object, others: Iterable[Object]) -> tuple[set[str], set[str]]:
    """Resource names and kinds that the other definitions of the group hold."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if other["spec"]["group"] != crd["spec"]["group"] or objects.name(other) == objects.name(crd):
            continue
        accepted = objects.status(other).get("acceptedNames") or {}
        resources |= {
            accepted.get("plural") or "",
            accepted.get("singular") or "",
            *(accepted.get("shortNames") or ()),
        }
        kinds |= {accepted.get("kind") or "", accepted.get("listKind") or ""}
    return resources - {""}, kinds - {""}


def is_served(crd: Object) -> bool:
    """Whether requests for the definition's kinds are answered."""
    return conditions.is_true(crd, ESTABLISHED)

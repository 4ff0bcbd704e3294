"""Conditions: the `status.conditions` list read and rewritten as a value.

Controllers of every room compute new condition lists with these functions and write them by patch;
nothing here changes a list it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from ondol.api.objects import Object
from ondol.base import timestamps

Status = Literal["True", "False", "Unknown"]

TRUE: Final = "True"
FALSE: Final = "False"
UNKNOWN: Final = "Unknown"


def of(obj: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The object's conditions; none when it has no status yet."""
    listed: Sequence[Mapping[str, Any]] = (obj.get("status") or {}).get("conditions") or ()
    return listed


def find(conditions: Iterable[Mapping[str, Any]], type: str) -> Mapping[str, Any] | None:
    return next((condition for condition in conditions if condition.get("type") == type), None)


def get(obj: Mapping[str, Any], type: str) -> Mapping[str, Any] | None:
    return find(of(obj), type)


def is_true(obj: Mapping[str, Any], type: str) -> bool:
    condition = get(obj, type)
    return condition is not None and condition.get("status") == TRUE


def is_false(obj: Mapping[str, Any], type: str) -> bool:
    condition = get(obj, type)
    return condition is not None and condition.get("status") == FALSE


def set(  # noqa: A001 - callers read it as conditions.set(...), the field's own word
    conditions: Iterable[Mapping[str, Any]],
    type: str,
    status: Status,
    *,
    reason: str = "",
    message: str = "",
    now: float,
    observed_generation: int | None = None,
) -> list[Object]:
    """The list with one condition written; its transition time moves only when its status does."""
    listed = [dict(condition) for condition in conditions]
    current = find(listed, type)
    written = _condition(current or {}, type, status, reason, message)
    if observed_generation is not None:
        written["observedGeneration"] = observed_generation
    if current is None or current.get("status") != status or not current.get("lastTransitionTime"):
        written["lastTransitionTime"] = timestamps.rfc3339(now)
    if current is None:
        return [*listed, written]
    return [written if condition is current else condition for condition in listed]


def _condition(current: Mapping[str, Any], type: str, status: Status, reason: str, message: str) -> Object:
    written: Object = {**current, "type": type, "status": status}
    for field, value in (("reason", reason), ("message", message)):
        if value:
            written[field] = value
        else:
            written.pop(field, None)
    return written


def remove(conditions: Iterable[Mapping[str, Any]], type: str) -> list[Object]:
    return [dict(condition) for condition in conditions if condition.get("type") != type]


def ready_from(
    conditions: Iterable[Mapping[str, Any]],
    dependents: Sequence[str],
    *,
    now: float,
    ready: str = "Ready",
    observed_generation: int | None = None,
) -> list[Object]:
    """Write the happy condition from its dependents, as Knative does.

    One dependent False makes it False, else one Unknown or missing makes it Unknown, with that
    dependent's reason and message; it is True only when every dependent is.
    """
    listed = [dict(condition) for condition in conditions]
    decisive = _decisive(listed, dependents)
    if decisive is None:
        return set(listed, ready, "True", now=now, observed_generation=observed_generation)
    return set(
        listed,
        ready,
        "False" if decisive.get("status") == FALSE else "Unknown",
        reason=str(decisive.get("reason") or ""),
        message=str(decisive.get("message") or ""),
        now=now,
        observed_generation=observed_generation,
    )


def _decisive(conditions: Sequence[Object], dependents: Sequence[str]) -> Mapping[str, Any] | None:
    """The dependent that keeps the happy condition from True, the failed before the unknown."""
    listed = [find(conditions, dependent) or {"status": UNKNOWN} for dependent in dependents]
    unhappy = [condition for condition in listed if condition.get("status") != TRUE]
    failed = [condition for condition in unhappy if condition.get("status") == FALSE]
    return next(iter(failed or unhappy), None)

"""Rules of PriorityClasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ondol.api import objects, priority_classes
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base.errors import Cause


def priority_class(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """A class of users below the system's, or one of the system's as it must be."""
    name, value = objects.name(obj), obj.get("value") or 0
    if name.startswith(priority_classes.SYSTEM_PREFIX):
        problem = _of_system(name, value, is_default=bool(obj.get("globalDefault")))
        if problem:
            detail = (
                f"priority class names with '{priority_classes.SYSTEM_PREFIX}' prefix are reserved for "
                f"system use only. error: {problem}"
            )
            yield causes.forbidden("metadata.name", detail)
    elif value > priority_classes.USER_MAX:
        detail = f"maximum allowed value of a user defined priority is {priority_classes.USER_MAX}"
        yield causes.forbidden("value", detail)
    policies = priority_classes.PREEMPTION_POLICIES
    yield from fields.one_of("preemptionPolicy", obj.get("preemptionPolicy"), policies, required=True)


def _of_system(name: str, value: int, *, is_default: bool) -> str:
    """What is wrong with a class that is named as one of the system's; empty if nothing is."""
    if name not in priority_classes.SYSTEM:
        return f"{name} is not a known system priority class"
    if value != priority_classes.SYSTEM[name]:
        return f"value of {name} PriorityClass must be {priority_classes.SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""


def priority_class_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Pods keep the priority they got, so a class keeps what it gives."""
    if (new.get("value") or 0) != (old.get("value") or 0):
        yield causes.forbidden("value", "may not be changed in an update.")
    yield from fields.same("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))

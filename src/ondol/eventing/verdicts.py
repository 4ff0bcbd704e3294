"""Conditions as values: one verdict for each, and the list that is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.destinations import Address, Unresolved

Document: TypeAlias = Mapping[str, Any]
Resolution: TypeAlias = Address | Unresolved | None
"""What became of a destination; None where there is none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition's outcome."""

    status: conditions.Status
    reason: str = ""
    message: str = ""

    @property
    def is_true(self) -> bool:
        return self.status == conditions.TRUE


OK: Final = Verdict("True")
UNKNOWN: Final = Verdict("Unknown")
DEAD_LETTER_NOT_CONFIGURED: Final = Verdict(
    "True", "DeadLetterSinkNotConfigured", "No dead letter sink is configured."
)


def failed(reason: str, message: str = "") -> Verdict:
    return Verdict("False", reason, message)


def unknown(reason: str, message: str = "") -> Verdict:
    return Verdict("Unknown", reason, message)


def dead_letter(resolution: Resolution, failure: str = "Unable to get the dead letter sink's URI") -> Verdict:
    """The condition DeadLetterSinkResolved; `failure` is its reason where there is no address."""
    if resolution is None:
        return DEAD_LETTER_NOT_CONFIGURED
    if isinstance(resolution, Unresolved):
        return failed(failure, str(resolution))
    return OK


def of_object(
    obj: Document | None, *, absent: tuple[str, str], prefix: str, kind: str, type_: str = eventing.READY
) -> Verdict:
    """The verdict on a condition that repeats another object's: its reason and message with it.

    `absent` is reason and message while the other has none; `prefix` that of the reason for no status at all.
    """
    condition = conditions.get(obj, type_) if obj is not None else None
    if condition is None:
        return unknown(*absent)
    status, reason = condition.get("status"), str(condition.get("reason") or "")
    message = str(condition.get("message") or "")
    match status:
        case conditions.TRUE:
            return OK
        case conditions.FALSE:
            return failed(reason, message)
        case conditions.UNKNOWN:
            return unknown(reason, message)
        case _:
            return unknown(f"{prefix}Unknown", f"The status of {kind} is invalid: {status}")


def with_ready(
    obj: Document, verdicts: Mapping[str, Verdict], *, of_ready: Sequence[str], now: float
) -> list[Object]:
    """The object's conditions with `verdicts` written and Ready derived from `of_ready`, in order of type."""
    listed: Sequence[Mapping[str, Any]] = conditions.of(obj)
    for type_, verdict in verdicts.items():
        listed = conditions.set(
            listed, type_, verdict.status, reason=verdict.reason, message=verdict.message, now=now
        )
    return sorted(conditions.ready_from(listed, of_ready, now=now), key=lambda c: str(c["type"]))


def is_ready(obj: Document) -> bool:
    """Whether the object is ready, and says so of the spec it has now."""
    observed = objects.status(obj).get("observedGeneration")
    return conditions.is_true(obj, eventing.READY) and observed == objects.generation(obj)

"""The conditions the mesh writes, as pure functions of how an object stands.

`Accepted`: the object is sound and in force. `Programmed`: the proxy runs it. `PassedAnalysis`: nothing
about it looks like a mistake; its reason is the first finding's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import conditions, dataplane, objects
from ondol.api.objects import Object
from ondol.mesh.analysis import Finding
from ondol.mesh.standing import Refusal

ACCEPTED: Final = "Accepted"
PROGRAMMED: Final = "Programmed"
PASSED_ANALYSIS: Final = "PassedAnalysis"


def of_rule(
    obj: Object,
    *,
    refusal: Refusal | None,
    running: bool | None,
    findings: Sequence[Finding],
    now: float,
) -> list[Object]:
    """The conditions an Istio object should have; `running` is None when nothing is made from it."""
    found = [dict(condition) for condition in conditions.of(obj)]
    generation = objects.generation(obj)
    last_good = "the last good version, if there was one, keeps serving"

    def put(type: str, status: conditions.Status, reason: str, message: str = "") -> None:
        nonlocal found
        found = conditions.set(
            found, type, status, reason=reason, message=message, now=now, observed_generation=generation
        )

    if refusal is None:
        put(ACCEPTED, "True", "Accepted")
    else:
        put(ACCEPTED, "False", refusal.reason, refusal.message)
    if refusal is not None:
        put(PROGRAMMED, "False", refusal.reason, f"{refusal.message}; {last_good}")
    elif running is None:
        put(PROGRAMMED, "Unknown", "NotInUse", "no proxy configuration is made from it yet")
    elif running:
        put(PROGRAMMED, "True", "Programmed")
    else:
        put(PROGRAMMED, "Unknown", "Pending", "the proxy has not answered yet")
    if findings:
        text = "; ".join(f"{finding.code}: {finding.message}" for finding in findings)
        put(PASSED_ANALYSIS, "False", findings[0].code, text)
    else:
        put(PASSED_ANALYSIS, "True", "NoFindings")
    return found


def of_pod(pod: Object, reason: str, message: str = "", *, now: float) -> list[Object]:
    """A pod's one condition: its listener runs (`Programmed`), or why not."""
    found = conditions.set(
        conditions.of(pod),
        dataplane.PROGRAMMED,
        "True" if reason == PROGRAMMED else "False",
        reason=reason,
        message=message,
        now=now,
    )
    return [condition for condition in found if condition["type"] == dataplane.PROGRAMMED]

"""The conditions the mesh writes, as pure functions of how an object stands.

`Accepted`: the object is sound and in force. `Programmed`: the proxy runs it. `PassedAnalysis`: nothing
about it looks like a mistake; its reason is the first finding's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import mesh
from ondol.mesh.acceptance import Refusal
from ondol.mesh.kinds.kind import PROGRESS, Finding, Progress, Word, by_message

PASSED_ANALYSIS: Final = "PassedAnalysis"


OF_RULES: Final = (mesh.ACCEPTED, mesh.PROGRAMMED, PASSED_ANALYSIS)


def of_rule(
    obj: Object,
    *,
    refusal: Refusal | None,
    progress: Progress,
    findings: Sequence[Finding],
    now: float,
    words: Mapping[Progress, Word] = PROGRESS,
) -> list[Object]:
    """The conditions an Istio object should have."""
    listed = [dict(condition) for condition in conditions.of(obj)]
    generation = objects.generation(obj)
    last_good = "the last good version, if there was one, keeps serving"

    def put(type: str, status: conditions.Status, reason: str, message: str = "") -> None:
        nonlocal listed
        listed = conditions.set(
            listed, type, status, reason=reason, message=message, now=now, observed_generation=generation
        )

    if refusal is None:
        put(mesh.ACCEPTED, "True", "Accepted")
    else:
        put(mesh.ACCEPTED, "False", refusal.reason, refusal.message)
    if refusal is not None:
        put(mesh.PROGRAMMED, "False", refusal.reason, f"{refusal.message}; {last_good}")
    elif progress is not Progress.UNKNOWN or _is_stale(obj):
        put(mesh.PROGRAMMED, *words[progress])
    if findings:
        by_text = by_message(findings).items()
        text = "; ".join(f"{', '.join(codes)}: {message}" for (_, message), codes in by_text)
        put(PASSED_ANALYSIS, "False", findings[0].code, text)
    else:
        put(PASSED_ANALYSIS, "True", "NoFindings")
    return listed


def _is_stale(obj: Object) -> bool:
    current = conditions.get(obj, mesh.PROGRAMMED) or {}
    return current.get("observedGeneration") != objects.generation(obj)


def warnings(before: Sequence[Mapping[str, Any]], after: Sequence[Object]) -> list[tuple[str, str]]:
    """Reasons and messages of what is not as it should be and was not so before: events, once each."""
    earlier = {
        (c.get("type"), c.get("reason"), c.get("message")) for c in before if c.get("status") == "False"
    }
    return [
        (str(c["reason"]), str(c.get("message") or ""))
        for c in after
        if c["type"] in (mesh.ACCEPTED, PASSED_ANALYSIS) and c["status"] == "False"
        if (c["type"], c["reason"], c.get("message")) not in earlier
    ]


OF_PODS: Final = (mesh.POD_PROGRAMMED, mesh.POD_GUARDED)


def of_pod(
    pod: Object, reason: str, message: str = "", *, now: float, is_guarded: bool | None = None
) -> list[Object]:
    """A pod's conditions: its listeners run (`Programmed`), or why not; whether it is guarded.

    Once guarded it stays so for as long as it has its sandbox; None leaves that as it is.
    """
    is_running = reason == mesh.PROGRAMMED
    listed = conditions.set(
        conditions.of(pod),
        mesh.POD_PROGRAMMED,
        "True" if is_running else "False",
        reason=reason,
        message=message,
        now=now,
    )
    was_guarded = conditions.is_true(pod, mesh.POD_GUARDED)
    if is_guarded or (was_guarded and reason == "NoSandbox"):
        status: conditions.Status = "True" if is_guarded else "False"
        listed = conditions.set(listed, mesh.POD_GUARDED, status, reason=reason, now=now)
    return [c for c in listed if c["type"] in OF_PODS]

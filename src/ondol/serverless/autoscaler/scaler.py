"""What to do about one revision now: the phases from zero and to zero, as a pure function.

Inputs are facts at this moment; the output says how many replicas the Deployment should have and
who stands in the Service's endpoints. Follows knative/serving `pkg/reconciler/autoscaling/kpa`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ondol.serverless.autoscaler.decide import Decision, Scaling

Mode = Literal["Proxy", "Serve"]
TIMED_OUT: Final = "TimedOut"
_BUFFER_S: Final = 30.0
"""Beyond the progress deadline, until a revision that did not start is given up."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a revision; ages in seconds, `None` where the thing has not happened."""

    scaling: Scaling
    replicas: int
    """What the Deployment asks for now."""
    ready: int
    demand: int
    """Requests held by the activator or in flight through it."""
    decision: Decision | None
    observed_s: float
    """How long samples have been taken without interruption."""
    initialized: bool
    """Whether the initial scale was ever reached."""
    reachable: bool = True
    timed: bool = False
    """Whether the silence of a pod is limited, which only the activator can measure."""
    quiet: bool = False
    idle_s: float | None = None
    """How long the revision has been switched to the activator for going to zero."""
    drained: bool = False
    """Whether the proxy confirmed that it would ask the activator."""
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The desired state: replicas, who serves, and reason and message of the Active condition."""

    replicas: int
    mode: Mode
    active: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    idle: bool = False
    """Traffic has ended: the switch to the activator is wanted before the replicas go."""


def plan(facts: Facts) -> Plan:
    """The desired state from the facts of this moment; it may be computed again at any time."""
    if not facts.initialized:
        return _initial(facts)
    replicas = _desired_replicas(facts)
    if replicas > 0:
        return _running(facts, replicas)
    if facts.replicas == 0:
        return Plan(0, "Proxy", "False", "NoTraffic", "The target is not receiving traffic.")
    return _leaving(facts)


def initial_replicas(scaling: Scaling, *, reachable: bool) -> int:
    """How many must have been ready once: before that a revision is not, and its forerunner keeps serving."""
    return max(scaling.initial_scale, scaling.min_scale if reachable else 0)


def _initial(facts: Facts) -> Plan:
    deadline_s = facts.scaling.progress_deadline_s + _BUFFER_S
    if facts.age_s > deadline_s and facts.ready == 0 and not facts.demand:
        return Plan(0, "Proxy", "False", TIMED_OUT, "The target could not be activated.")
    replicas = initial_replicas(facts.scaling, reachable=facts.reachable)
    mode: Mode = "Serve" if facts.ready and may_serve(facts) else "Proxy"
    return Plan(
        replicas,
        mode,
        "Unknown",
        "Queued",
        "Requests to the target are being buffered as resources are provisioned.",
    )


def _desired_replicas(facts: Facts) -> int:
    least = facts.scaling.min_scale if facts.reachable else 0
    if facts.demand > 0:
        least = max(least, 1, facts.scaling.activation_scale)
    if facts.replicas and not facts.scaling.to_zero:
        least = max(least, 1)
    if facts.decision is None:
        return max(least, facts.replicas) if facts.replicas and not _settled_quiet(facts) else least
    replicas = max(facts.decision.replicas, least)
    if replicas == 0 and facts.replicas and not _settled_quiet(facts):
        return 1  # at most one replica waits out the window; the last goes only after a whole quiet one
    return replicas


def _settled_quiet(facts: Facts) -> bool:
    return facts.quiet and facts.demand == 0 and facts.observed_s >= facts.scaling.window_s


def _running(facts: Facts, replicas: int) -> Plan:
    if facts.ready == 0:
        message = "Requests to the target are being buffered as resources are provisioned."
        return Plan(replicas, "Proxy", "Unknown", "Queued", message)
    return Plan(replicas, "Serve" if may_serve(facts) else "Proxy", "True")


def may_serve(facts: Facts) -> bool:
    """Pods answer directly unless something must be counted or held on the way to them."""
    if facts.scaling.container_concurrency > 0 or facts.timed:
        return False  # these limits are kept by the activator: the proxy knows none of them per pod
    return facts.decision is None or facts.decision.excess_burst_capacity >= 0


def _leaving(facts: Facts) -> Plan:
    """First the activator takes the requests, then, when the proxy has confirmed it, the pods go."""
    switched_s = facts.idle_s
    may_go = switched_s is not None and (
        (facts.drained and switched_s >= facts.scaling.retention_s)
        or switched_s >= max(facts.scaling.grace_s, facts.scaling.retention_s)
    )
    replicas = 0 if may_go else facts.replicas
    return Plan(replicas, "Proxy", "False", "NoTraffic", "The target is not receiving traffic.", idle=True)

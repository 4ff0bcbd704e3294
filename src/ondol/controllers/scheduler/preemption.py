"""Which pods give way to one of higher priority that fits nowhere. Pure.

Kubernetes' DefaultPreemption: as few as possible on one node, of the lowest priorities, and those that a
disruption budget still holds last of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects, pods
from ondol.api.disruption import covers
from ondol.api.objects import Object
from ondol.controllers.scheduler import filters
from ondol.controllers.scheduler.accounts import Accounts, priority
from ondol.controllers.scheduler.filters import Choice, Trial
from ondol.controllers.scheduler.hosts import Host

TARGET: Final = "DisruptionTarget"
BY_SCHEDULER: Final = "PreemptionByScheduler"
_NO_HELP: Final = "Preemption is not helpful for scheduling"
_NO_VICTIMS: Final = "No preemption victims found for incoming pod"
_NEVER: Final = "not eligible due to preemptionPolicy=Never."
_ON_THE_WAY: Final = "not eligible due to a terminating pod on the nominated node."
_CANDIDATES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """The pods to send away from a node; without a node, `reason` says why none would help."""

    node: str = ""
    victims: Sequence[Object] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: str
    victims: Sequence[Object]
    violations: int

    def rank(self) -> tuple[Any, ...]:
        """The lower, the less harm is done."""
        importance = [priority(victim) for victim in self.victims]
        highest = max(importance)
        youngest = min(_since(victim) for victim in self.victims if priority(victim) == highest)
        return (
            self.violations,
            highest,
            sum(each + 2**31 for each in importance),
            len(self.victims),
            -youngest,
            self.node,
        )


def plan(trial: Trial, choice: Choice, budgets: Sequence[Object]) -> Plan:
    """Whom to send away so that the pod, which `choice` found no node for, can run."""
    pod, accounts = trial.pod, trial.cluster.accounts
    hosts = trial.cluster.fleet.hosts
    if objects.spec(pod).get("preemptionPolicy") == "Never":
        return Plan(reason=_NEVER)
    if _is_waiting(pod, accounts):
        return Plan(reason=_ON_THE_WAY)
    candidates: list[_Candidate] = []
    refusals: dict[str, Sequence[str]] = {}
    for host in hosts:
        against = choice.refusals.get(host.name, ())
        if filters.LASTING.intersection(against):
            refusals[host.name] = [_NO_HELP]
            continue
        candidate = _on(host, trial, budgets)
        if candidate is None:
            refusals[host.name] = [_NO_VICTIMS]
        else:
            candidates.append(candidate)
        if len(candidates) >= _CANDIDATES_MAX:
            break
    if not candidates:
        return Plan(reason=filters.summary(len(hosts), refusals.values()))
    best = min(candidates, key=_Candidate.rank)
    return Plan(best.node, best.victims)


def _is_waiting(pod: Object, accounts: Accounts) -> bool:
    """Whether pods are already on their way out for this one."""
    node = accounts.nominated(objects.key(pod))
    return bool(node) and any(
        priority(other) < priority(pod) and is_leaving(other) for other in accounts.usage(node).pods.values()
    )


def is_leaving(pod: Object) -> bool:
    """Whether it was sent away for another."""
    condition = conditions.get(pod, TARGET) or {}
    sent = condition.get("status") == "True" and condition.get("reason") == BY_SCHEDULER
    return objects.is_deleting(pod) and sent


def _on(host: Host, trial: Trial, budgets: Sequence[Object]) -> _Candidate | None:
    """The fewest pods whose going makes room on a node: all lower ones go, then each comes back that can."""
    accounts = trial.cluster.accounts
    lower = [
        other for other in accounts.usage(host.name).pods.values() if priority(other) < priority(trial.pod)
    ]
    usage = accounts.usage_for(trial.pod, host.name).copy()
    for other in lower:
        usage.remove(other)
    if not lower or not trial.fits_without(host, usage, lower):
        return None
    victims = list(lower)
    violating, others = _by_budgets(sorted(lower, key=_importance, reverse=True), budgets)
    violations = 0
    for other in (*violating, *others):
        usage.add(other)
        rest = [each for each in victims if each is not other]
        if trial.fits_without(host, usage, rest):
            victims = rest
        else:
            usage.remove(other)
            violations += any(each is other for each in violating)
    victims.sort(key=_importance, reverse=True)
    return _Candidate(host.name, victims, violations) if victims else None


def _importance(pod: Mapping[str, Any]) -> tuple[int, float]:
    """The higher, the later it goes: priority first, then age."""
    return priority(pod), -_since(pod)


def _since(pod: Mapping[str, Any]) -> float:
    return pods.moment(objects.status(pod).get("startTime")) or pods.created_at(pod)


def _by_budgets(victims: Iterable[Object], budgets: Sequence[Object]) -> tuple[list[Object], list[Object]]:
    """Those whose going would break a budget, and the others, each in the order given."""
    allowed = [int(objects.status(budget).get("disruptionsAllowed") or 0) for budget in budgets]
    violating: list[Object] = []
    others: list[Object] = []
    for victim in victims:
        breaks = False
        for index, budget in enumerate(budgets):
            if objects.namespace(budget) != objects.namespace(victim) or not covers(budget, victim):
                continue
            if objects.name(victim) in (objects.status(budget).get("disruptedPods") or {}):
                continue
            allowed[index] -= 1
            breaks = breaks or allowed[index] < 0
        (violating if breaks else others).append(victim)
    return violating, others

"""How fast a size may change: windows that steady it, rules for its rate, the bounds of the spec. Pure.

Follows Kubernetes' `pkg/controller/podautoscaler` (`horizontal.go`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

STABILIZATION_S: Final = 300.0
"""Where the spec does not say: for how long the highest recommendation holds before a size goes down."""
_DOUBLED: Final = 2
_FREE_MAX: Final = 4
"""To so many replicas a size may go at once where the spec has no rules, or else to its double."""
_HIGHER: Final = (
    "recent recommendations were higher than current one, applying the highest recent recommendation"
)
_LOWER: Final = (
    "recent recommendations were lower than current one, applying the lowest recent recommendation"
)


class Verdict(NamedTuple):
    """Part of a condition: its status, reason and message."""

    is_true: bool
    reason: str
    message: str


class Decision(NamedTuple):
    """The size to have now, and what the conditions `AbleToScale` and `ScalingLimited` say of it."""

    replicas: int
    able: Verdict
    limited: Verdict


@dataclass(slots=True)
class History:
    """What was recommended and what was done, each with its time in monotonic seconds.

    It is kept in memory alone, as in Kubernetes: a controller that starts anew knows of the size at hand.
    """

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)

    def begin(self, replicas: int, now: float) -> None:
        """The size at hand is the first recommendation."""
        if not self.recommendations:
            self.recommendations.append((now, replicas))

    def recommend(self, replicas: int, now: float, remembered_s: float) -> None:
        self.recommendations = [each for each in self.recommendations if each[0] > now - remembered_s]
        self.recommendations.append((now, replicas))

    def scaled(self, before: int, after: int, now: float, remembered_s: float) -> None:
        """A change was made; changes older than any rule looks back at are forgotten."""
        changes = self.ups if after > before else self.downs
        changes[:] = [each for each in changes if each[0] > now - remembered_s]
        changes.append((now, abs(after - before)))


def decide(spec: Mapping[str, Any], current: int, proposed: int, history: History, now: float) -> Decision:
    """The size for a recommendation of `proposed` replicas; remembers the recommendation."""
    behavior = spec.get("behavior")
    steady, able = _steadied(behavior, current, proposed, history, now)
    minimum, maximum = bounds(spec)
    if behavior is None:
        replicas, limit = _within(steady, minimum, maximum, max(_DOUBLED * current, _FREE_MAX))
    elif steady > current:
        ceiling = max(current, _ceiling(current, behavior["scaleUp"], history, now))
        replicas, limit = _not_above(steady, maximum, ceiling)
    elif steady < current:
        floor = min(current, _floor(current, behavior["scaleDown"], history, now))
        replicas, limit = _not_below(steady, minimum, floor)
    else:
        replicas, limit = steady, ("", "")
    if replicas == steady:
        limit = ("DesiredWithinRange", "the desired count is within the acceptable range")
    return Decision(replicas, able, Verdict(replicas != steady, *limit))


def bounds(spec: Mapping[str, Any]) -> tuple[int, int]:
    """The least and the most replicas."""
    least = spec.get("minReplicas")
    return 1 if least is None else int(least), int(spec["maxReplicas"])


def remembered_s(behavior: Mapping[str, Any] | None) -> float:
    """How far back any rule of the spec looks at changes."""
    rules = [rule for side in (behavior or {}).values() for rule in side.get("policies") or ()]
    return max((float(rule["periodSeconds"]) for rule in rules), default=0.0)


def _steadied(
    behavior: Mapping[str, Any] | None, current: int, proposed: int, history: History, now: float
) -> tuple[int, Verdict]:
    """The recommendation, held to the lowest and the highest of the windows behind it."""
    up_s, down_s = _windows_s(behavior)
    lowest = min([proposed, *(size for at, size in history.recommendations if at > now - up_s)])
    highest = max([proposed, *(size for at, size in history.recommendations if at > now - down_s)])
    history.recommend(proposed, now, max(up_s, down_s))
    steady = min(max(current, lowest), highest) if behavior is not None else highest
    if steady == proposed:
        return steady, Verdict(True, "ReadyForNewScale", "recommended size matches current size")
    if behavior is not None and proposed >= current:
        return steady, Verdict(True, "ScaleUpStabilized", _LOWER)
    return steady, Verdict(True, "ScaleDownStabilized", _HIGHER)


def _windows_s(behavior: Mapping[str, Any] | None) -> tuple[float, float]:
    """The windows for changes up and down."""
    if behavior is None:
        return 0.0, STABILIZATION_S
    up = behavior["scaleUp"].get("stabilizationWindowSeconds")
    down = behavior["scaleDown"].get("stabilizationWindowSeconds")
    return float(up or 0), STABILIZATION_S if down is None else float(down)


def _within(steady: int, minimum: int, maximum: int, ceiling: int) -> tuple[int, tuple[str, str]]:
    if steady < minimum:
        return minimum, _TOO_FEW
    return _not_above(steady, maximum, ceiling)


_TOO_FEW: Final = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY: Final = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FAST_UP: Final = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
)
_TOO_FAST_DOWN: Final = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)


def _not_above(steady: int, maximum: int, ceiling: int) -> tuple[int, tuple[str, str]]:
    reason = _TOO_FAST_UP if maximum > ceiling else _TOO_MANY
    return min(steady, maximum, ceiling), reason


def _not_below(steady: int, minimum: int, floor: int) -> tuple[int, tuple[str, str]]:
    reason = _TOO_FAST_DOWN if minimum < floor else _TOO_FEW
    return max(steady, minimum, floor), reason


def _ceiling(current: int, rules: Mapping[str, Any], history: History, now: float) -> int:
    """The most replicas that the rules for growing allow now."""
    proposals = [
        _grown(policy, _at_start(current, policy, history, now)) for policy in rules.get("policies") or ()
    ]
    return _chosen(current, rules, proposals, upwards=True)


def _floor(current: int, rules: Mapping[str, Any], history: History, now: float) -> int:
    """The fewest replicas that the rules for shrinking allow now."""
    proposals = [
        _shrunk(policy, _at_start(current, policy, history, now)) for policy in rules.get("policies") or ()
    ]
    return _chosen(current, rules, proposals, upwards=False)


def _chosen(current: int, rules: Mapping[str, Any], proposals: Sequence[int], *, upwards: bool) -> int:
    match rules.get("selectPolicy"):
        case "Disabled":
            return current
        case "Min":
            upwards = not upwards
    return max(proposals, default=current) if upwards else min(proposals, default=current)


def _at_start(current: int, policy: Mapping[str, Any], history: History, now: float) -> int:
    """The size at the start of the policy's period."""
    since = now - float(policy["periodSeconds"])
    added = sum(count for at, count in history.ups if at > since)
    removed = sum(count for at, count in history.downs if at > since)
    return current - added + removed


def _grown(policy: Mapping[str, Any], size: int) -> int:
    value = int(policy["value"])
    return size + value if policy["type"] == "Pods" else math.ceil(size * (1 + value / 100))


def _shrunk(policy: Mapping[str, Any], size: int) -> int:
    value = int(policy["value"])
    return size - value if policy["type"] == "Pods" else int(size * (1 - value / 100))

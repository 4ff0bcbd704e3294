"""Gradual roll-out: how a Configuration's share of requests moves from the revision of before to the newest.

Pure. A newest revision gets 1 % first; how long that took until it was ready is the least time of a step, and
with it the number and the size of the steps follow from the duration that is asked for. The state is what
Knative keeps in the annotation `networking.internal.knative.dev/rollout` of its ingress (knative/serving
`pkg/reconciler/route/traffic/rollout.go`), here of the VirtualService: weights and state change in one write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

ANNOTATION: Final = "networking.internal.knative.dev/rollout"
SECOND_NS: Final = 1_000_000_000


class Steps(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a roll-out began, when its next step is due, how far apart and how large steps are (percent)."""

    began_ns: int = msgspec.field(default=0, name="starttime")
    next_ns: int = msgspec.field(default=0, name="nextStepTime")
    every_ns: int = msgspec.field(default=0, name="stepDuration")
    size: int = msgspec.field(default=0, name="stepSize")


class Share(msgspec.Struct, frozen=True):
    """A revision's part, in percent of all requests of the Route or tag."""

    revision: str = msgspec.field(name="revisionName")
    percent: int


class Moving(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a Configuration gets under a tag (empty: under the Route's own name), oldest revision first."""

    configuration: str = msgspec.field(name="configurationName")
    percent: int
    tag: str = ""
    shares: tuple[Share, ...] = msgspec.field(default=(), name="revisions")
    steps: Steps = msgspec.field(default_factory=Steps, name="stepParams")

    @property
    def key(self) -> tuple[str, str]:
        return self.tag, self.configuration


class Rollout(msgspec.Struct, frozen=True):
    """The whole of a Route."""

    configurations: tuple[Moving, ...] = ()

    @property
    def is_done(self) -> bool:
        return all(len(moving.shares) < 2 for moving in self.configurations)

    @property
    def next_ns(self) -> int:
        """When the next step is due; 0 while none is."""
        return min((m.steps.next_ns for m in self.configurations if m.steps.next_ns), default=0)

    def shares(self, configuration: str, tag: str) -> tuple[Share, ...]:
        return next((m.shares for m in self.configurations if m.key == (tag, configuration)), ())

    def revisions(self) -> frozenset[str]:
        """All that get requests."""
        return frozenset(share.revision for moving in self.configurations for share in moving.shares)


def goal(latest: Mapping[tuple[str, str], tuple[str, int]]) -> Rollout:
    """The end of it: by tag and Configuration the newest revision, with all of their share."""
    return Rollout(
        tuple(
            Moving(configuration, percent, tag, (Share(revision, percent),))
            for (tag, configuration), (revision, percent) in sorted(latest.items())
            if percent
        )
    )


def encode(rollout: Rollout) -> str:
    return msgspec.json.encode(rollout).decode()


def decode(text: str | None) -> Rollout | None:
    """The state an annotation has; None if it has none, or one that cannot be."""
    try:
        rollout = msgspec.json.decode(text or "", type=Rollout)
    except msgspec.DecodeError:
        return None
    return rollout if all(_is_sound(moving) for moving in rollout.configurations) else None


def _is_sound(moving: Moving) -> bool:
    percents = [share.percent for share in moving.shares]
    is_whole = sum(percents) == moving.percent and all(p >= 0 for p in percents)
    return 0 <= moving.percent <= 100 and 0 <= moving.steps.size <= moving.percent and is_whole


def without(rollout: Rollout, gone: Iterable[str]) -> Rollout:
    """The state without revisions that are no more; what they had goes to the oldest that is left."""
    lost = frozenset(gone)
    return Rollout(tuple(_without(moving, lost) for moving in rollout.configurations))


def _without(moving: Moving, lost: frozenset[str]) -> Moving:
    left = [share for share in moving.shares if share.revision not in lost]
    if len(left) == len(moving.shares) or not left:
        return msgspec.structs.replace(moving, shares=tuple(left))
    missing = moving.percent - sum(share.percent for share in left)
    left[0] = Share(left[0].revision, left[0].percent + missing)
    return msgspec.structs.replace(moving, shares=tuple(left))


def observed(rollout: Rollout, now_ns: int, duration_s: float) -> Rollout:
    """The state once the proxy serves it: the first percent's time sets those that follow."""
    return Rollout(
        tuple(
            msgspec.structs.replace(moving, steps=_steps(moving, now_ns, duration_s))
            if moving.steps.began_ns and not moving.steps.every_ns
            else moving
            for moving in rollout.configurations
        )
    )


def _steps(moving: Moving, now_ns: int, duration_s: float) -> Steps:
    """Of 60 s when the first percent took 15: 45 s are left, 3 steps of 33 %, one in 15 s."""
    least_s = max(1, math.ceil((now_ns - moving.steps.began_ns) / SECOND_NS))
    left_s = max(1.0, duration_s - least_s)
    remaining = moving.percent - 1
    count = min(float(remaining), max(1.0, left_s / least_s))
    every_ns = int(left_s / count * SECOND_NS)
    size = math.floor(remaining / count + 0.5)  # a smaller one would take almost twice the time
    return Steps(moving.steps.began_ns, now_ns + every_ns, every_ns, size)


def step(end: Rollout, before: Rollout | None, now_ns: int) -> Rollout:
    """The state now, from that of before: on its way to `end`, which is where nothing was before."""
    last = {m.key: m for m in before.configurations if m.shares} if before is not None else {}
    return Rollout(
        tuple(
            _moved(moving, last[moving.key], now_ns) if moving.percent > 1 and moving.key in last else moving
            for moving in end.configurations
        )
    )


def _moved(end: Moving, before: Moving, now_ns: int) -> Moving:
    present = [share for share in before.shares[:-1] if share.percent]
    shares = _resized((*present, before.shares[-1]), end.percent)
    newest = end.shares[0].revision
    if shares[-1].revision != newest:
        return msgspec.structs.replace(end, shares=_begun(shares, newest), steps=Steps(began_ns=now_ns))
    if len(shares) < 2:
        return end
    steps = before.steps
    if steps.size and now_ns >= steps.next_ns:
        shares = _stepped(shares, steps.size)
        steps = msgspec.structs.replace(steps, next_ns=now_ns + steps.every_ns)
    if len(shares) < 2:
        return end
    return msgspec.structs.replace(end, shares=shares, steps=steps)


def _resized(shares: Sequence[Share], percent: int) -> tuple[Share, ...]:
    """A larger share goes to the newest revision, a smaller one is taken from the oldest."""
    surplus = sum(share.percent for share in shares) - percent
    if surplus <= 0:
        newest = shares[-1]
        return (*shares[:-1], Share(newest.revision, newest.percent - surplus))
    left = list(shares)
    while left and left[0].percent <= surplus:
        surplus -= left.pop(0).percent
    left[0] = Share(left[0].revision, left[0].percent - surplus)
    return tuple(left)


def _begun(shares: Sequence[Share], newest: str) -> tuple[Share, ...]:
    """One percent for the newest, from the newest of before; what it has already, it keeps."""
    left = _taken([share for share in shares if share.revision != newest], 1)
    before = sum(share.percent for share in shares) - sum(share.percent for share in left)
    return (*left, Share(newest, before))


def _stepped(shares: Sequence[Share], size: int) -> tuple[Share, ...]:
    """The newest gets a step more, from the newest of the others first."""
    left = _taken(shares[:-1], size)
    total = sum(share.percent for share in shares)
    return (*left, Share(shares[-1].revision, total - sum(share.percent for share in left)))


def _taken(shares: Sequence[Share], percent: int) -> tuple[Share, ...]:
    """What is left of these when so much is taken, from the last one first."""
    left: list[Share] = []
    for share in reversed(shares):
        part = min(percent, share.percent)
        percent -= part
        if share.percent > part:
            left.insert(0, Share(share.revision, share.percent - part))
    return tuple(left)

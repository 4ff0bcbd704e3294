"""Whether the node has room for a pod, whoever decided that it goes there (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ondol.api import demand
from ondol.node.pods.model import Spec

_IN_THOUSANDTHS: Final = "cpu"


@dataclass(frozen=True, slots=True)
class Lack:
    """What the node has too little of, in milli-units; text as the kubelet's, CPU in thousandths."""

    resource: str
    requested: int
    used: int
    capacity: int

    def __str__(self) -> str:
        unit = 1 if self.resource == _IN_THOUSANDTHS else 1000
        requested, used, capacity = (n // unit for n in (self.requested, self.used, self.capacity))
        return f"resource: {self.resource}, requested: {requested}, used: {used}, capacity: {capacity}"


def lack(
    pod: Spec,
    others: Iterable[Spec],
    allocatable: Mapping[str, str],
    *,
    demanded: Counter[str] | None = None,
) -> Lack | None:
    """The first resource of which the pod asks for more than the others leave; None if there is room.

    The others are as they are allocated. `demanded`: what the pod asks for, where that is known already.
    """
    used: Counter[str] = Counter()
    for other in others:
        used.update(demand.desired(other))
    room = demand.milli(allocatable)
    requests = demand.desired(pod) if demanded is None else demanded
    lacks = (Lack(name, requests[name], used[name], room[name]) for name in sorted(room) if requests[name])
    return next((each for each in lacks if each.requested + each.used > each.capacity), None)

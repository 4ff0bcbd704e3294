"""What to do next for a DaemonSet, node by node: `keep` has one pod on each, `roll` replaces old ones. Pure.

A turn rolls only when there is nothing to keep. Without a surge old pods are deleted, as many as may be down;
with one (`maxSurge`) the new pod is made beside the old one, which goes when the new one is available.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ondol.api import objects, pods, shares
from ondol.api.objects import Object
from ondol.controllers.workloads.daemonset import daemon_pods
from ondol.controllers.workloads.daemonset.placement import Placement, placement


@dataclass(frozen=True, slots=True)
class View:
    """A DaemonSet and what there is of it."""

    daemon_set: Object
    hashed: str
    """The hash of the present template's revision."""
    places: Mapping[str, Placement]
    """Of each node there is, by name."""
    pods: Mapping[str, Sequence[Object]]
    """By node, also of nodes that are gone."""
    now: float

    def is_updated(self, pod: Object) -> bool:
        return daemon_pods.is_updated(self.daemon_set, self.hashed, pod)

    def is_available(self, pod: Object) -> bool:
        return pods.available_in_s(pod, min_ready_s(self.daemon_set), self.now) == 0

    @property
    def desired(self) -> int:
        """On how many nodes a pod should run."""
        return sum(place.runs for place in self.places.values())


@dataclass(slots=True)
class Plan:
    """Nodes to make a pod for and pods to delete; those of them that ended, and why, for events."""

    nodes: list[str] = field(default_factory=list)
    deleted: list[Object] = field(default_factory=list)
    ended: list[tuple[str, Object]] = field(default_factory=list)
    """Pods among the deleted that failed or succeeded, with their nodes."""
    wait_s: float | None = None
    """Until when a failed pod is left, so that a node that refuses it is not asked in a storm."""

    def __bool__(self) -> bool:
        return bool(self.nodes or self.deleted)


def view(
    daemon_set: Object, hashed: str, nodes: Sequence[Object], claimed: Sequence[Object], now: float
) -> View:
    places = {objects.name(node): placement(daemon_set, node) for node in nodes}
    return View(daemon_set, hashed, dict(sorted(places.items())), daemon_pods.by_node(claimed), now)


def min_ready_s(daemon_set: Mapping[str, Any]) -> int:
    return int(objects.spec(daemon_set).get("minReadySeconds") or 0)


def limits(daemon_set: Mapping[str, Any], desired: int) -> tuple[int, int]:
    """How many pods may be down and how many may be too many, during an update."""
    rolling = (objects.spec(daemon_set).get("updateStrategy") or {}).get("rollingUpdate") or {}
    unavailable = shares.scaled(rolling.get("maxUnavailable", 1), desired, up=True)
    surge = shares.scaled(rolling.get("maxSurge", 0), desired, up=True)
    return (unavailable if unavailable or surge else 1), surge


def is_rolling(daemon_set: Mapping[str, Any]) -> bool:
    return (objects.spec(daemon_set).get("updateStrategy") or {}).get("type") == "RollingUpdate"


def keep(view: View, waits: Mapping[str, float]) -> Plan:
    """A pod where there should be one, none where not; `waits` has seconds by node, for failed pods there."""
    plan = Plan()
    for node, place in view.places.items():
        present = view.pods.get(node, ())
        if place.runs and not present:
            plan.nodes.append(node)
        elif place.stays:
            running = _clear(plan, node, present, waits)
            plan.deleted += _surplus(view, running)
            if not running and place.runs and _surges(view):
                plan.nodes.append(node)
        else:
            plan.deleted += [pod for pod in present if not objects.is_deleting(pod)]
    for node, lost in view.pods.items():
        if node not in view.places:
            plan.deleted += [pod for pod in lost if not pods.node_name(pod) and not objects.is_deleting(pod)]
    return plan


def _clear(plan: Plan, node: str, present: Sequence[Object], waits: Mapping[str, float]) -> list[Object]:
    """Those that run; those that ended are deleted, failed ones after a while."""
    running = []
    for pod in present:
        if objects.is_deleting(pod):
            continue
        if not pods.is_terminal(pod):
            running.append(pod)
        elif pods.phase(pod) == "Failed" and waits.get(node, 0.0) > 0:
            plan.wait_s = min(waits[node], waits[node] if plan.wait_s is None else plan.wait_s)
        else:
            plan.deleted.append(pod)
            plan.ended.append((node, pod))
    return running


def _surges(view: View) -> bool:
    return is_rolling(view.daemon_set) and limits(view.daemon_set, 1)[1] > 0


def _surplus(view: View, running: Sequence[Object]) -> list[Object]:
    """All but the eldest; with a surge all but the eldest new and, while it is needed, the eldest old one."""
    eldest = daemon_pods.eldest_first(running)
    if not _surges(view):
        return eldest[1:]
    new, old = ([pod for pod in eldest if view.is_updated(pod) is updated] for updated in (True, False))
    surplus = [*new[1:], *old[1:]]
    if new and old and (not pods.is_ready(old[0]) or view.is_available(new[0])):
        surplus.append(old[0])
    return surplus


def roll(view: View) -> Plan:
    """The next step of an update."""
    if not is_rolling(view.daemon_set):
        return Plan()
    unavailable, surge = limits(view.daemon_set, view.desired)
    return _surging(view, surge) if surge else _replacing(view, unavailable)


def _on_nodes(view: View) -> list[tuple[str, list[Object], list[Object]]]:
    """By node the pods that run, new ones and old ones; of nodes without any, only where one should run."""
    rows = []
    for node in sorted(view.pods.keys() | view.places.keys()):
        place = view.places.get(node)
        if node not in view.pods and not (place and place.runs):
            continue
        alive = [pod for pod in view.pods.get(node, ()) if not objects.is_deleting(pod)]
        new = [pod for pod in alive if view.is_updated(pod)]
        rows.append((node, new, [pod for pod in alive if pod not in new]))
    return rows


def _replacing(view: View, max_unavailable: int) -> Plan:
    """Old pods that are down go at once; others as long as fewer are down than may be."""
    down, broken, candidates = 0, [], []
    for _, new, old in _on_nodes(view):
        if len(new) + len(old) != 1:
            down += 1  # `keep` sees to it
        elif new:
            down += not view.is_available(new[0])
        elif not view.is_available(old[0]):
            broken.append(old[0])
            down += 1
        else:
            candidates.append(old[0])
    room = max(0, max_unavailable - down)
    return Plan(deleted=[*broken, *candidates[:room]])


def _surging(view: View, max_surge: int) -> Plan:
    """New pods beside old ones, as many as may be too many; old ones go when new ones are available."""
    plan = Plan()
    surging, available = 0, 0
    candidates: list[str] = []
    misplaced: list[Object] = []
    for node, new, old in _on_nodes(view):
        if len(new) > 1 or len(old) > 1:
            surging += 1  # `keep` sees to it
            continue
        available += any(view.is_available(pod) for pod in old or new)
        if not old:
            continue
        if new:
            if view.is_available(new[0]):
                plan.deleted += old
            else:
                surging += 1
        elif not (place := view.places.get(node)) or not place.runs:
            (misplaced if view.is_available(old[0]) else plan.deleted).append(old[0])
        elif view.is_available(old[0]):
            candidates.append(node)
        else:
            plan.nodes.append(node)
    # One on a node that is no place any more goes when there are enough without it.
    plan.deleted += misplaced[: max(0, available - view.desired)]
    plan.nodes += candidates[: max(0, max_surge - surging)]
    return plan

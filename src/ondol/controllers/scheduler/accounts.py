"""What is taken on each node: resources and host ports, kept up to date pod by pod. Pure.

Bound pods count as soon as the scheduler has decided on them, before any watch shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import demand as demands
from ondol.api import objects, pod_ports, pods, resizes
from ondol.api.objects import Key, Object
from ondol.base.host_ports import HostPort

PODS: Final = demands.PODS


@dataclass(frozen=True, slots=True)
class Demand:
    """What one pod takes: milli-units of each resource, and ports of the node itself."""

    resources: Mapping[str, int]
    ports: frozenset[HostPort]


@dataclass(slots=True)
class Usage:
    """What is taken on one node."""

    resources: Counter[str] = field(default_factory=Counter)
    ports: Counter[HostPort] = field(default_factory=Counter)
    pods: dict[Key, Object] = field(default_factory=dict)

    def copy(self) -> Usage:
        return Usage(Counter(self.resources), Counter(self.ports), dict(self.pods))

    def add(self, pod: Object) -> None:
        needs = demand(pod)
        self.resources.update(needs.resources)
        self.ports.update(needs.ports)
        self.pods[objects.key(pod)] = pod

    def remove(self, pod: Object) -> None:
        needs = demand(pod)
        self.resources.subtract(needs.resources)
        self.ports.subtract(needs.ports)
        self.ports = +self.ports
        del self.pods[objects.key(pod)]


_NOTHING: Final = Usage()
"""Of a node without pods; never changed."""


def priority(pod: Mapping[str, Any]) -> int:
    """The higher one goes first, and may send the lower away."""
    return int(objects.spec(pod).get("priority") or 0)


def demand(pod: Mapping[str, Any]) -> Demand:
    return Demand(demands.of(pod), frozenset(HostPort(*port) for port in pod_ports.of(pod)))


def allocatable(node: Mapping[str, Any]) -> Counter[str]:
    """What pods may take on a node, in milli-units."""
    status = objects.status(node)
    return demands.milli(status.get("allocatable") or status.get("capacity") or {})


def has_relations(pod: Mapping[str, Any]) -> bool:
    """Whether the pod says which other pods it would have near, or far."""
    affinity = objects.spec(pod).get("affinity") or {}
    return bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity"))


class Accounts:
    """Usage by node name."""

    def __init__(self) -> None:
        self._usage: dict[str, Usage] = {}
        self._entered: dict[Key, tuple[str, str, Demand]] = {}
        self._related: dict[Key, tuple[str, Object]] = {}
        self._nominated: dict[Key, tuple[str, Object]] = {}

    def usage(self, node: str) -> Usage:
        return self._usage.get(node) or _NOTHING

    def has(self, pod: Mapping[str, Any]) -> bool:
        """Whether the pod is counted on a node."""
        entered = self._entered.get(objects.key(pod))
        return entered is not None and entered[1] == objects.uid(pod)

    def usage_for(self, pod: Mapping[str, Any], node: str) -> Usage:
        """What is taken of a node as `pod` sees it: with the room kept for others that come before it."""
        if not self._nominated:
            return self.usage(node)
        before = [
            other
            for where, other in self._nominated.values()
            if where == node
            and objects.uid(other) != objects.uid(pod)
            and priority(other) >= priority(pod)
            and objects.key(other) not in self.usage(node).pods
        ]
        if not before:
            return self.usage(node)
        usage = self.usage(node).copy()
        for other in before:
            usage.add(other)
        return usage

    def related(self) -> Iterable[tuple[str, Object]]:
        """The bound pods that say something of others, each with its node."""
        return self._related.values()

    def nominate(self, pod: Object, node: str) -> None:
        """Keep room on a node for a pod that others were sent away for."""
        self._nominated[objects.key(pod)] = (node, pod)

    def nominated(self, key: Key) -> str:
        """The node that room is kept on for a pod; empty if none is."""
        return self._nominated[key][0] if key in self._nominated else ""

    def withdraw(self, key: Key) -> None:
        """Keep no room any more."""
        self._nominated.pop(key, None)

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Every bound pod with its node."""
        for node, usage in self._usage.items():
            for pod in usage.pods.values():
                yield node, pod

    def observe(self, old: Object | None, new: Object | None) -> None:
        """Take in a change of a pod as a watch shows it."""
        if new is None:
            if old is not None:
                self._leave(objects.key(old))
            return
        key, node = objects.key(new), pods.node_name(new)
        entered = self._entered.get(key)
        if node and not pods.is_terminal(new):
            self._enter(new, node)
        elif entered and (node or entered[1] != objects.uid(new)):
            self._leave(key)  # it ended; one that merely is not shown as bound yet stays assumed

    def assume(self, pod: Object, node: str) -> None:
        """Count a pod on the node it is about to be bound to."""
        self._enter(pod, node)

    def forget(self, pod: Object) -> None:
        """The pod was not bound after all."""
        entered = self._entered.get(objects.key(pod))
        if entered and entered[1] == objects.uid(pod):
            self._leave(objects.key(pod))

    def _enter(self, pod: Object, node: str) -> None:
        key = objects.key(pod)
        entered = self._entered.get(key)
        if entered and entered[:2] == (node, objects.uid(pod)) and not self._is_resized(pod, node):
            self._usage[node].pods[key] = pod
            self._relate(key, node, pod)
            return
        self._leave(key)
        needs = demand(pod)
        usage = self._usage.setdefault(node, Usage())
        usage.resources.update(needs.resources)
        usage.ports.update(needs.ports)
        usage.pods[key] = pod
        self._entered[key] = (node, objects.uid(pod), needs)
        self._relate(key, node, pod)

    def _is_resized(self, pod: Object, node: str) -> bool:
        """Whether a bound pod may count otherwise than before: only who was changed is looked at again."""
        before = self._usage[node].pods[objects.key(pod)]
        generations = (objects.metadata(each).get("generation") for each in (before, pod))
        is_changed = len(set(generations)) > 1
        return is_changed or resizes.is_under_way(before) or resizes.is_under_way(pod)

    def _relate(self, key: Key, node: str, pod: Object) -> None:
        if has_relations(pod):
            self._related[key] = (node, pod)

    def _leave(self, key: Key) -> None:
        entered = self._entered.pop(key, None)
        self._related.pop(key, None)
        if entered is None:
            return
        node, _, needs = entered
        usage = self._usage[node]
        usage.resources.subtract(needs.resources)
        usage.ports.subtract(needs.ports)
        usage.ports = +usage.ports
        del usage.pods[key]
        if not usage.pods:
            del self._usage[node]

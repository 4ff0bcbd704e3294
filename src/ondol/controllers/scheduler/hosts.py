"""A node as the scheduler sees it: what is looked up for every pod, read once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.controllers.scheduler.accounts import allocatable


@dataclass(frozen=True, slots=True)
class Host:
    """A node's name and labels, its room in milli-units, its taints, and whether it takes pods now."""

    node: Object
    name: str
    labels: Mapping[str, str]
    room: Mapping[str, int]
    taints: tuple[Mapping[str, Any], ...]
    is_ready: bool
    is_unschedulable: bool


class Fleet:
    """All nodes: by name, and in one order, from which searches take their turns."""

    def __init__(self, hosts: Iterable[Host] = ()) -> None:
        self._by_name = {host.name: host for host in hosts}
        self._listed: tuple[Host, ...] | None = None

    @property
    def hosts(self) -> tuple[Host, ...]:
        if self._listed is None:
            self._listed = tuple(self._by_name.values())
        return self._listed

    def put(self, host: Host) -> None:
        self._by_name[host.name] = host
        self._listed = None

    def remove(self, name: str) -> None:
        self._by_name.pop(name, None)
        self._listed = None

    def domain(self, node: str, key: str) -> str | None:
        """The value of a node's label; None if the node has none, or is not there."""
        host = self._by_name.get(node)
        return None if host is None else host.labels.get(key)


def of(node: Object) -> Host:
    spec = objects.spec(node)
    return Host(
        node=node,
        name=objects.name(node),
        labels=objects.labels(node),
        room=allocatable(node),
        taints=tuple(spec.get("taints") or ()),
        is_ready=conditions.is_true(node, "Ready"),
        is_unschedulable=bool(spec.get("unschedulable")),
    )

"""Pods begin and end by the table of policies: nobody starts before it holds, no address is left in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import ManualClock
from ondol.node.config import NodeConfig
from ondol.node.network.nft_table import Table
from ondol.node.pods.model import Record
from ondol.node.policy_rules import PolicyRules

pytestmark = pytest.mark.anyio


@dataclass
class Informer:
    """Objects, and whoever wants to hear of them."""

    listed: list[Object] = field(default_factory=list)
    handlers: list[Callable[[Object | None, Object | None], None]] = field(default_factory=list)
    synced: bool = True

    @property
    def lister(self) -> Any:
        return SimpleNamespace(list=lambda: self.listed)

    def add_handler(self, handler: Callable[[Object | None, Object | None], None]) -> None:
        self.handlers.append(handler)

    def change(self, old: Object | None, new: Object | None) -> None:
        self.listed = [each for each in self.listed if each is not old] + ([new] if new is not None else [])
        for handler in self.handlers:
            handler(old, new)


@dataclass
class Kernel:
    """The table as it was put last; refuses while it is broken."""

    tables: list[Table] = field(default_factory=list)
    is_broken: bool = False
    is_gone: bool = False

    async def put(self, table: Table) -> None:
        if self.is_broken:
            raise errors.HostError("no memory", remedy="none")
        if not self.tables or table != self.tables[-1] or self.is_gone:
            self.tables.append(table)
        self.is_gone = False

    async def check(self) -> bool:
        return not self.is_gone

    def selected(self) -> set[str]:
        return set(self.tables[-1].elements["ingress"])


class Node:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.policies, self.pods, self.namespaces = Informer(), Informer(), Informer()
        self.kernel = Kernel()
        manager: Any = SimpleNamespace(clock=self.clock, informer=self._informer)
        config = NodeConfig("abcdef", "n", Path("/nowhere"), "192.0.2.1", pod_cidr="10.244.0.0/16")
        parts: tuple[Any, Any, Any] = (self.pods, self.namespaces, self.kernel)
        self.rules = PolicyRules(config, manager, *parts)
        self.rules.listen()

    def _informer(self, resource: object) -> Informer:
        assert resource is resources.NETWORK_POLICY
        return self.policies

    async def settle(self) -> None:
        await anyio.wait_all_tasks_blocked()
        await self.clock.advance(2)
        await anyio.wait_all_tasks_blocked()


def pod(name: str, **labels: str) -> Object:
    metadata = {"name": name, "namespace": "shop", "uid": name, "labels": labels}
    return {"metadata": metadata, "spec": {"containers": [{}]}}


DENY: Object = {"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}}
WEB: Object = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"podSelector": {"matchLabels": {"app": "web"}}},
}


async def test_a_pod_begins_once_its_policies_hold() -> None:
    """And is over once they are gone from the kernel."""
    node = Node()
    node.policies.listed = [DENY]
    done: list[str] = []

    async def live() -> None:
        await node.rules.admit(pod("a"), "10.244.0.2")
        done.append("admitted")
        assert node.kernel.selected() == {"10.244.0.2"}
        await node.rules.release("a")
        done.append("released")
        assert node.kernel.selected() == set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        await anyio.wait_all_tasks_blocked()
        assert done == [], "nobody has running the kernel"
        tasks.start_soon(node.rules.keep)
        await node.settle()
        await node.settle()
        assert done == ["admitted", "released"]
        tasks.cancel_scope.cancel()


async def test_the_first_pod_after_a_start_waits_too() -> None:
    """The table that was put before anybody came does not stand for its."""
    node = Node()
    node.policies.listed = [DENY]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.rules.keep)
        await node.settle()
        assert node.kernel.selected() == set()

        async def live() -> None:
            await node.rules.admit(pod("a"), "10.244.0.2")
            assert node.kernel.selected() == {"10.244.0.2"}
            tasks.cancel_scope.cancel()

        tasks.start_soon(live)
        await node.settle()
        await node.settle()
        pytest.fail("nobody has heard that the table holds")


async def test_a_pod_begins_by_the_newest_of_its_object() -> None:
    """Labels that came between what its worker was told and its start count."""
    node = Node()
    node.policies.listed = [WEB]
    node.pods.listed = [pod("a", app="web")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.rules.keep)
        tasks.start_soon(node.rules.admit, pod("a"), "10.244.0.2")
        await node.settle()
        assert node.kernel.selected() == {"10.244.0.2"}
        tasks.cancel_scope.cancel()


async def test_what_cannot_be_programmed_keeps_pods_waiting() -> None:
    """They are running why; what is in the kernel stays, and it is tried again."""
    node = Node()
    node.policies.listed = [DENY]
    failures: list[str] = []

    async def begin() -> None:
        try:
            await node.rules.admit(pod("b"), "10.244.0.3")
        except errors.HostError as error:
            failures.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.rules.keep)
        tasks.start_soon(node.rules.admit, pod("a"), "10.244.0.2")
        await node.settle()
        node.kernel.is_broken = True
        tasks.start_soon(begin)
        await node.settle()
        assert failures == ["NetworkPolicies cannot be enforced: no memory"]
        assert node.kernel.selected() == {"10.244.0.2"}
        node.kernel.is_broken = False
        await node.settle()
        assert node.kernel.selected() == {"10.244.0.2", "10.244.0.3"}
        tasks.cancel_scope.cancel()


async def test_the_next_agent_goes_on_with_who_is_here() -> None:
    """From its first table on: those whose objects it has, and those whose objects are gone."""
    node = Node()
    node.policies.listed = [WEB]
    node.pods.listed = [pod("a", app="web"), pod("b", app="other")]
    for last, name in enumerate("abc", start=2):
        record = Record(
            uid=name, namespace="shop", name=name, boot="", start_time=0.0, address=f"10.244.0.{last}"
        )
        node.rules.adopt(record)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.rules.keep)
        await node.settle()
        assert [set(table.elements["ingress"]) for table in node.kernel.tables] == [
            {"10.244.0.2", "10.244.0.4"}
        ]
        tasks.cancel_scope.cancel()


async def test_changes_act_by_themselves() -> None:
    """Of policies and labels, and of the table by others' hands; of a status nobody asks."""
    node = Node()
    a = pod("a")
    node.pods.listed = [a]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.rules.keep)
        await node.settle()
        await node.rules.admit(a, "10.244.0.2")
        node.policies.change(None, WEB)
        await node.settle()
        assert node.kernel.selected() == set()
        labelled = pod("a", app="web")
        node.pods.change(a, labelled)
        await node.settle()
        assert node.kernel.selected() == {"10.244.0.2"}
        puts = len(node.kernel.tables)
        running = {**labelled, "status": {"phase": "Running"}}
        node.pods.change(labelled, running)
        assert not node.rules._changed.is_set
        node.kernel.is_gone = True
        await node.rules.look_again()
        await node.settle()
        assert len(node.kernel.tables) == puts + 1
        ended = {**running, "status": {"phase": "Succeeded"}}
        node.pods.change(running, ended)
        await node.settle()
        assert node.kernel.selected() == set()
        node.policies.change(WEB, None)
        await node.settle()
        assert not node.kernel.tables[-1].chains
        assert objects.uid(a) == "a"
        tasks.cancel_scope.cancel()

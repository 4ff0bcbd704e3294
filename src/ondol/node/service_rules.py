"""Keeps the kernel's table of Services and host ports in step with the objects, and tells who lost what.

The table is computed from all objects and the kernel told what differs; whoever asks for an address and
port that is somebody else's loses that alone, and finds it in a condition and an event of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import anyio
import anyio.to_thread

from ondol import sdk
from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, host_ports, log
from ondol.base.host_ports import HostPort
from ondol.base.memo import Memo
from ondol.base.signal import Signal
from ondol.contracts import mesh
from ondol.node import balancing, health_checks
from ondol.node.health_checks import HealthChecks
from ondol.node.network import claims, conntrack, local, service_table, services
from ondol.node.network.claims import Grant, Loss, Settlement
from ondol.node.network.kernel_table import KernelTable
from ondol.node.network.services import Entry
from ondol.node.pods.host import Host
from ondol.sdk.status import Writer

_DEBOUNCE_S: Final = 0.02
_RETRY_S: Final = 1.0
_IN_USE: Final = "AddressInUse"
_PROGRAMMED: Final = "Programmed"
_FIELD_MANAGER: Final = "kube-proxy"
"""In Kubernetes that is who keeps this table."""
_KINDS: Final[Mapping[str, Resource]] = {"Service": resources.SERVICE, "Pod": resources.POD}

_log = log.get("node.network")


class ServiceRules:
    """`changed` whenever an object did; `keep` does the work."""

    def __init__(
        self,
        host: Host,
        pods: sdk.Informer,
        slices: sdk.Informer,
        in_use: Callable[[], Collection[HostPort]] = host_ports.in_use,
        kernel: KernelTable | None = None,
    ) -> None:
        self._host = host
        self._pods = pods
        self._slices = slices
        self._in_use = in_use
        self._changed = Signal()
        self._kernel = kernel or KernelTable()
        self._served_here: dict[Key, frozenset[HostPort]] = {}
        """Where the endpoints of a slice at the node's own address listen, for slices that have some."""
        self._entries = Memo()
        self._here = services.Here(host.config.name, host.config.balanced_at)
        self._balanced = balancing.Balancing(host, self._here.balanced_at)
        self._grants: frozenset[Grant] = frozenset()
        self._has_losers = False
        self._led: frozenset[Entry] = frozenset()
        """Where datagrams are led since flows were last looked through."""
        self._unchecked: dict[Key, str] = {}
        """The Services whose health checks could not be served, with the reason that was told."""
        self._statuses = {kind: _writer(host, resource) for kind, resource in _KINDS.items()}

    def changed(self) -> None:
        self._changed.set()

    async def look_again(self) -> None:
        """Check what no object shows: a program's port may be free now, the table may be removed."""
        try:
            is_there = await self._kernel.check()
        except OSError as error:
            _log.warning("services_not_checked", error=str(error))
            is_there = True
        if self._has_losers or not is_there:
            self._changed.set()

    def slice_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._served_here.pop(objects.key(old), None)
        if new is not None and (own := services.served_at(str(self._host.config.gateway), new)):
            self._served_here[objects.key(new)] = own
        self._changed.set()

    def pod_changed(self, old: Object | None, new: Object | None) -> None:
        if services.host_ports(pod for pod in (old, new) if pod is not None):
            self._changed.set()

    async def keep(self) -> None:
        """Put the table in place whenever it differs, at most once a debounce; serve the health checks."""
        async with anyio.create_task_group() as tasks:
            await self._keep(health_checks.HealthChecks(tasks, self._host.clock))

    async def _keep(self, checks: HealthChecks) -> None:
        while True:
            await self._changed.wait()
            await self._host.clock.sleep(_DEBOUNCE_S)
            self._changed.clear()
            settlement = self._settlement()
            if not await self._program(settlement):
                await self._host.clock.sleep(_RETRY_S)
                self._changed.set()
                continue
            await self._end_stale_flows(settlement)
            self._grants = settlement.grants
            self._has_losers = bool(settlement.losses)
            await self._tell(settlement.losses)
            self._has_losers |= not await self._balanced.tell(settlement)
            await self._serve_checks(checks)
            self._has_losers |= bool(self._unchecked)

    def _settlement(self) -> Settlement:
        listed = services.entries(
            self._host.sources.services.lister.list(), self._slices.lister.list(), self._entries, self._here
        )
        listed += services.host_ports(self._pods.lister.list())
        newcomers = any((entry.owner.uid, place) not in self._grants for entry, place in _of_machine(listed))
        return claims.settle(
            listed,
            reserved=self._host.config.reserved_ports,
            in_use=self._in_use() if newcomers else (),
            before=self._grants,
            is_local=_is_local(),
        )

    async def _program(self, settlement: Settlement) -> bool:
        untranslated = self._untranslated(settlement)
        try:
            await self._kernel.put(
                service_table.table(self._host.config.instance, settlement.entries, untranslated)
            )
        except (errors.HostError, OSError) as error:
            _log.error("services_not_programmed", error=str(error))
            return False
        return True

    async def _end_stale_flows(self, settlement: Settlement) -> None:
        """Who sends datagrams without a pause would go on to an endpoint that is gone."""
        led = frozenset(entry for entry in settlement.entries if entry.protocol == "UDP")
        if led == self._led:
            return
        try:
            await anyio.to_thread.run_sync(_end_stale, led)
        except OSError as error:
            _log.warning("flows_not_ended", error=str(error))
        self._led = led

    async def _serve_checks(self, checks: HealthChecks) -> None:
        listed = self._host.sources.services.lister.list()
        node = self._host.config.name
        failed = await checks.keep(health_checks.checks(listed, self._slices.lister.list(), node))
        for service in listed:
            why = failed.get(objects.key(service), "")
            if why and why != self._unchecked.get(objects.key(service)):
                message = f"node {node} {why}"
                self._host.recorder.event(service, "Warning", "FailedToStartServiceHealthcheck", message)
        self._unchecked = failed

    def _untranslated(self, settlement: Settlement) -> frozenset[HostPort]:
        """What is never translated: the platform's ports, and what listens at the node's own address.

        There the activator opens a port for each revision as they come, which no pod with a `hostPort`
        of that number may take over. Node ports are promised by the API, and none of it is among them.
        """
        own = frozenset[HostPort]().union(*self._served_here.values())
        node_ports = {
            (place.protocol, place.port)
            for entry, place in _of_machine(settlement.entries)
            if entry.owner.kind == "Service" and place.is_everywhere
        }
        beside = {place for place in own if (place.protocol, place.port) not in node_ports}
        return self._host.config.reserved_ports | beside

    # Telling

    async def _tell(self, losses: Collection[Loss]) -> None:
        by_owner: dict[str, list[str]] = {}
        for loss in losses:
            by_owner.setdefault(loss.owner.uid, []).append(str(loss))
        for kind, obj in self._all():
            message = "; ".join(sorted(by_owner.get(objects.uid(obj), ())))
            if not _is_reported(obj, message):
                await self._say(kind, obj, message)

    def _all(self) -> Iterator[tuple[str, Object]]:
        for service in self._host.sources.services.lister.list():
            yield "Service", service
        for pod in self._pods.lister.list():
            yield "Pod", pod

    async def _say(self, kind: str, obj: Object, message: str) -> None:
        """Write the condition, and an event where something was lost."""
        listed = conditions.set(
            conditions.of(obj),
            mesh.ADDRESSES_PROGRAMMED,
            "False" if message else "True",
            reason=_IN_USE if message else _PROGRAMMED,
            message=message,
            now=self._host.clock.now(),
        )
        try:
            written = await self._statuses[kind].write(obj, {"conditions": listed})
        except errors.Conflict:
            return  # gone meanwhile, and its name another's
        except errors.ApiError as error:
            _log.warning("conflict_not_told", owner=f"{kind} {objects.key(obj)}", error=str(error))
            self._has_losers = True  # look again
            return
        if message and written is not None:
            self._host.recorder.event(obj, "Warning", _IN_USE, message)


def _end_stale(led: Collection[Entry]) -> None:
    for flow in conntrack.stale(conntrack.flows(), led):
        conntrack.end(flow)


def _writer(host: Host, resource: Resource) -> Writer:
    return Writer(
        host.client, resource, field_manager=_FIELD_MANAGER, conditions=(mesh.ADDRESSES_PROGRAMMED,)
    )


def _of_machine(listed: Collection[Entry]) -> Iterator[tuple[Entry, HostPort]]:
    """Places that are not one Service's alone by the API's word."""
    return ((entry, place) for entry in listed for place in entry.places if place not in entry.assigned)


def _is_local() -> Callable[[str], bool]:
    """Whether an address is this machine's, as it is now; looked up only if somebody asks."""
    machine = functools.cache(lambda: frozenset(map(str, local.addresses())))
    return lambda address: address.startswith("127.") or address in machine()


def _is_reported(obj: Object, message: str) -> bool:
    condition = conditions.get(obj, mesh.ADDRESSES_PROGRAMMED)
    if condition is None:
        return not message
    return (condition.get("message") or "", condition.get("status")) == (
        message,
        "False" if message else "True",
    )

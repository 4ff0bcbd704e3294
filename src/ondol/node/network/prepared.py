"""Namespaces made before a pod asks for them, with the redirection to the proxy in them.

The kernel takes 10 to 25 ms to hold a new namespace to its first chain: it waits until no processor is in
the middle of a packet. A pod that finds a namespace ready does without; what is the pod's own (name, address,
port of the bridge, settings) it gets as ever. A namespace is given once, to one pod, and nobody was in it.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.to_thread

from ondol.api import dataplane
from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.node.network import local, sandbox

_COUNT: Final = 4
_REST_S: Final = 0.5
"""How long after a pod took one before others are made: its start is not to be held up by that."""
_AGAIN_S: Final = 10.0

_log = log.get("node.network")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Namespaces under a name that is no pod's, and the addresses that their rules let past the proxy."""

    name: str
    direct: frozenset[ipaddress.IPv4Address]


class PreparedSandboxes:
    """`create` from any thread; `run` keeps some ready. What it leaves when it ends, the next removes."""

    def __init__(self, network: sandbox.Network, clock: Clock) -> None:
        self._network = network
        self._clock = clock
        self._ready: deque[Prepared] = deque()
        self._lock = threading.Lock()
        self._last_number = 0
        self._taken = Signal()

    def create(self, wiring: sandbox.Wiring) -> None:
        """The sandbox, from namespaces that are ready if they are such as the pod has. Blocks."""
        prepared = self._fitting(wiring)
        if prepared is None:
            sandbox.create(self._network, wiring)
        else:
            sandbox.create(self._network, wiring, prepared.name)

    def taken(self) -> None:
        """One may have gone: to be called on the event loop."""
        self._taken.set()

    async def run(self) -> None:
        """Have as many as shall be, until cancelled."""
        for name in sandbox.left_prepared(self._network):
            try:
                await anyio.to_thread.run_sync(sandbox.destroy, self._network, name)
            except (errors.HostError, OSError) as error:  # in nobody's way, and removed at a later start
                _log.warning("sandbox_left", name=name, error=str(error))
        while True:
            if not await self._fill():
                await self._clock.sleep(_AGAIN_S)
                continue
            await self._taken.wait()
            while self._taken.is_set:  # pods that follow each other closely are not to wait for this
                self._taken.clear()
                await self._clock.sleep(_REST_S)

    async def _fill(self) -> bool:
        while len(self._ready) < _COUNT:
            self._last_number += 1
            name = f"{sandbox.PREPARED}{self._last_number}"
            try:
                await anyio.to_thread.run_sync(self._prepare, name)
            except (errors.HostError, OSError) as error:
                _log.warning("sandbox_not_prepared", error=str(error))
                return False
        return True

    def _prepare(self, name: str) -> None:
        direct = frozenset({self._network.gateway, *local.addresses()})
        sandbox.prepare(self._network, name, direct)
        with self._lock:
            self._ready.append(Prepared(name, direct))

    def _fitting(self, wiring: sandbox.Wiring) -> Prepared | None:
        """One of these whose rules are what the pod's would be; those of another time are removed."""
        is_usual = wiring.redirect and wiring.capture == dataplane.EVERYTHING
        if not is_usual or sandbox.kinds_of(wiring) != sandbox.ALL_KINDS:
            return None
        direct = frozenset({self._network.gateway, *local.addresses()})
        while True:
            with self._lock:
                prepared = self._ready.popleft() if self._ready else None
            if prepared is None or prepared.direct == direct:
                return prepared
            sandbox.destroy(self._network, prepared.name)  # the machine has other addresses now

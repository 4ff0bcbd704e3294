"""Leader election in virtual time: never two leaders, however long requests hang."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import anyio
import pytest

from ondol import apiserver, sdk, store
from ondol.api import resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import Clock, ManualClock
from ondol.client import Client
from ondol.sdk.leader import Election, LeadershipLost
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio

LEASE = sdk.Lease("test", "default")


@dataclass
class Network:
    """The way from one process to the server, which hangs at times, as one that drops packets does."""

    clock: Clock
    hangs_from: float = float("inf")
    hangs_until: float = float("inf")
    rng: random.Random | None = None
    """With it a request hangs now and then, before or after the server has done it."""

    async def pass_through(self) -> None:
        now = self.clock.monotonic()
        if self.hangs_from <= now < self.hangs_until:
            await self.clock.sleep(60)
            raise errors.Timeout("no answer in 60 s")
        if self.rng is not None and self.rng.random() < 0.3:
            await self.clock.sleep(self.rng.choice((1, 4, 9, 16, 60)))


class Server:
    """One lease, with what matters here of a server: of two writers of one version the second is refused."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self._version = 0

    def read(self) -> Object:
        if self.lease is None:
            raise errors.NotFound("no lease")
        return copy.deepcopy(self.lease)

    def write(self, lease: Object) -> Object:
        read_version = str(lease["metadata"].get("resourceVersion") or "")
        live_version = self.lease["metadata"]["resourceVersion"] if self.lease else ""
        if read_version != live_version:
            raise errors.Conflict("another writer was faster")
        self._version += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self._version)}
        self.lease = copy.deepcopy({**lease, "metadata": metadata})
        return self.read()


class FarClient(Client):
    """A client of the server behind a network."""

    def __init__(self, server: Server, network: Network) -> None:
        self._server = server
        self._network = network

    async def get(self, *_: object, **__: object) -> Object:
        await self._network.pass_through()
        return self._server.read()

    async def create(self, resource: Resource, obj: Object, *_: object, **__: object) -> Object:  # noqa: ARG002 - as in Client
        return await self._write(obj)

    async def update(self, resource: Resource, obj: Object, **_: object) -> Object:  # noqa: ARG002 - likewise
        return await self._write(obj)

    async def _write(self, lease: Object) -> Object:
        await self._network.pass_through()
        written = self._server.write(lease)
        await self._network.pass_through()
        return written


@dataclass
class Terms:
    """Who led, from when to when."""

    clock: Clock
    ended: list[tuple[float, float, str]] = field(default_factory=list)

    async def campaign(self, identity: str, client: Client) -> None:
        """Lead whenever it can be, for ever."""
        while True:
            election = Election(client, LEASE, identity=identity, clock=self.clock)
            await election.acquire()
            began = self.clock.monotonic()
            try:
                await election.keep()
            except LeadershipLost:
                self.ended.append((began, self.clock.monotonic(), identity))

    def overlaps(self) -> Iterator[tuple[object, object]]:
        for earlier, later in pairwise(sorted(self.ended)):
            if later[0] < earlier[1]:
                yield earlier, later


async def test_a_leader_whose_requests_hang_stops_before_another_begins() -> None:
    """Ten seconds after it began the last renewal that succeeded, not when its client gives up."""
    clock, server = ManualClock(), Server()
    async with anyio.create_task_group() as tasks:
        terms = Terms(clock)
        tasks.start_soon(terms.campaign, "a", FarClient(server, Network(clock, hangs_from=5)))
        await anyio.wait_all_tasks_blocked()
        await clock.advance(1)
        second = Election(FarClient(server, Network(clock)), LEASE, identity="b", clock=clock)
        led: list[float] = []

        async def follow() -> None:
            await second.acquire()
            led.append(clock.monotonic())

        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        await clock.advance(60)
        assert [(end, who) for _, end, who in terms.ended] == [(14, "a")]
        assert led == [21]  # it saw the last renewal at 5 s, and looks every 2 s
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(4))
async def test_there_are_never_two_leaders(seed: int) -> None:
    """Three processes whose requests hang at random, before or after the server has done them."""
    clock, server = ManualClock(), Server()
    terms = Terms(clock)
    async with anyio.create_task_group() as tasks:
        for number, identity in enumerate("abc"):
            network = Network(clock, rng=random.Random(seed * 10 + number))
            tasks.start_soon(terms.campaign, identity, FarClient(server, network))
        await anyio.wait_all_tasks_blocked()
        await clock.advance(500)
        tasks.cancel_scope.cancel()
    assert terms.ended
    assert list(terms.overlaps()) == []


async def test_a_claim_that_took_too_long_is_none() -> None:
    """Others have counted since the lease was written, so an answer that comes late gives no time to lead."""
    clock, server = ManualClock(), Server()
    async with anyio.create_task_group() as tasks:
        far = FarClient(server, Network(clock, hangs_from=0, hangs_until=3))
        election = Election(far, LEASE, identity="a", clock=clock)
        led: list[float] = []

        async def lead() -> None:
            await election.acquire()
            led.append(clock.monotonic())

        tasks.start_soon(lead)
        await anyio.wait_all_tasks_blocked()
        await clock.advance(11)
        assert led == []
        await clock.advance(10)
        assert led == [12]
        tasks.cancel_scope.cancel()


async def test_a_manager_that_stops_gives_its_lease_back() -> None:
    """After all it did as the leader has ended; the next one leads at its next try."""
    clock = ManualClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0))
    async with World(app, clock=clock) as w:
        managers = [
            sdk.Manager(w.manager(name).client, clock=clock, rng=w.rng, identity=name, lease=LEASE)
            for name in ("first", "second")
        ]
        steps: list[str] = []

        async def lead(who: str) -> None:
            steps.append(f"{who} leads")
            try:
                await anyio.sleep_forever()
            finally:
                steps.append(f"{who} ends, the lease is {await holder_of(w)}'s")

        for manager in managers:
            manager.add_runnable(lambda who=manager.identity: lead(who), manager.identity)  # type: ignore[misc]  # binds
            await w.start(manager)
            await clock.advance(1)
        managers[0].stop()
        await clock.advance(3)
        assert steps == ["first leads", "first ends, the lease is first's", "second leads"]
        assert await holder_of(w) == "second"


async def holder_of(w: World) -> str:
    with anyio.CancelScope(shield=True):
        lease = await w.client.get(resources.LEASE, "test", "default")
    return str(lease["spec"]["holderIdentity"])

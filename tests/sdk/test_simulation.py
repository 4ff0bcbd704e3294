"""Eventually stable reconciliation, by simulation: virtual time, seeded faults, crashes.

Once the last change is made and the faults are over, what is there is what was asked for, and no
more writes follow. A failure names its seed; the same seed replays the same history.
"""

from __future__ import annotations

import random
from typing import Annotated

import msgspec
import pytest

from ondol import apiserver, sdk, store
from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.client import Call, ConnectionLost, Response
from ondol.sdk.testing import Faults, LoopClock, World, rough, simulate


class PlotSpec(sdk.Model, frozen=True):
    beds: Annotated[int, msgspec.Meta(ge=0, le=5)] = 1
    crop: str = "leek"


class PlotStatus(sdk.Status, frozen=True):
    planted: int = 0


@sdk.custom_resource(group="garden.test")
class Plot(sdk.CustomResource, frozen=True):
    """A plot of a garden, divided into beds."""

    spec: PlotSpec = PlotSpec()
    status: PlotStatus = PlotStatus()


PLOT = Plot.definition.resource


class Gardener(sdk.Operator[Plot]):
    """One ConfigMap a bed; what lies outside the cluster is the set `outside`."""

    owns = (resources.CONFIG_MAP,)

    def __init__(self, outside: set[str]) -> None:
        self.outside = outside

    async def reconcile(self, ctx: sdk.Context[Plot]) -> sdk.Result | None:
        self.outside.add(ctx.name)
        for number in range(ctx.object.spec.beds):
            await ctx.apply(bed(ctx.name, number, ctx.object.spec.crop))
        ctx.set_status(planted=ctx.object.spec.beds)
        ctx.set_condition("Ready", True, "Planted")
        return None

    async def finalize(self, ctx: sdk.Context[Plot]) -> sdk.Result | None:
        self.outside.discard(ctx.name)
        return None


def bed(plot: str, number: int, crop: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{plot}-{number}"},
        "data": {"crop": crop},
    }


async def history(seed: int) -> tuple[list[Object], dict[str, int]]:
    """One run: changes and crashes among faults, then peace; the beds that remain and the faults met."""
    rng = random.Random(seed)
    clock = LoopClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(seed))
    outside: set[str] = set()
    async with World(app, clock=clock, seed=seed, faults=rough()) as world:
        await sdk.install_crds(world.client, [Plot], clock=clock)
        manager = await world.start(Gardener(outside))
        for _ in range(12):
            await change(world, rng)
            await world.advance(rng.random() * 10)
            if rng.random() < 0.2:
                world.crash(manager)
                manager = await world.start(Gardener(outside))
        await change(world, rng)
        await world.advance(rng.random() * 20)
        world.faults.heal()
        await world.run_until_stable(quiet_s=330, limit_s=20_000)
        writes = world.transport.writes
        beds = await check(world, outside)
        await world.run_until_stable(quiet_s=330, limit_s=20_000)
        assert world.transport.writes == writes, f"writes went on (seed {seed})"
        return beds, world.faults.injected


async def change(world: World, rng: random.Random) -> None:
    """Create, resize, replant, tamper with or delete something."""
    name = rng.choice(["north", "south", "east"])
    plot = await world.get(PLOT, name, "default")
    spec = {"beds": rng.randrange(6), "crop": rng.choice(["leek", "kale"])}
    if plot is None:
        document = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        await world.client.create(PLOT, document)
    elif objects.is_deleting(plot):
        return
    elif rng.random() < 0.2:
        await world.client.delete(PLOT, name, "default")
    elif rng.random() < 0.3 and await world.get(resources.CONFIG_MAP, f"{name}-0", "default"):
        await world.client.delete(resources.CONFIG_MAP, f"{name}-0", "default")
    else:
        await world.client.patch(PLOT, name, "default", patch={"spec": spec})


async def check(world: World, outside: set[str]) -> list[Object]:
    plots = (await world.client.list(PLOT, "default")).items
    beds = (await world.client.list(resources.CONFIG_MAP, "default")).items
    for plot in plots:
        name, spec = objects.name(plot), objects.spec(plot)
        actual = {objects.name(b): b["data"] for b in beds if objects.is_controlled_by(b, plot)}
        expected = {f"{name}-{n}": {"crop": spec["crop"]} for n in range(spec["beds"])}
        assert actual == expected, f"seed {world.seed}"
        assert objects.status(plot).get("planted") == spec["beds"], f"seed {world.seed}"
        await world.assert_condition(PLOT, name, "default", "Ready")
    assert outside == {objects.name(plot) for plot in plots}, f"seed {world.seed}"
    return beds


@pytest.mark.parametrize("seed", range(25))
def test_reconciliation_becomes_stable(seed: int) -> None:
    """Whatever was lost, late, refused or crashed on the way."""
    _, injected = simulate(lambda: history(seed), seed=seed)
    assert injected, "a history without a fault would show nothing"


def test_the_faults_are_all_met() -> None:
    """The seeds above exercise every kind of fault there is."""
    met: set[str] = set()
    for seed in range(8):
        met |= set(simulate(lambda seed=seed: history(seed), seed=seed)[1])  # type: ignore[misc]  # default binds the loop's value
    kinds = {"lost_request", "lost_reply", "conflict", "unavailable", "cut_watch", "expired_watch"}
    assert met == kinds


def test_one_seed_is_one_history() -> None:
    """A failure can be replayed: names, versions and times come out the same."""
    first = simulate(lambda: history(3), seed=3)
    assert simulate(lambda: history(3), seed=3) == first


@pytest.mark.parametrize("seed", range(12))
def test_an_unnamed_child_whose_answer_was_lost_is_not_made_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the watch is: the server gave it a name that nobody has heard of yet."""
    lost: list[Call] = []

    async def main() -> int:
        clock = LoopClock()
        app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(seed))
        async with World(app, clock=clock, seed=seed, faults=Faults(latency_s=5.0)) as world:
            manager = world.manager()
            children = manager.informer(resources.CONFIG_MAP, label_selector="child")
            answered = world.transport.request

            async def request(call: Call) -> Response:
                answer = await answered(call)
                if call.method == "POST" and not lost:
                    lost.append(call)
                    raise ConnectionLost("injected: the answer was lost")
                return answer

            async def reconcile(key: Key) -> sdk.Result | None:
                if not children.lister.list():
                    child = {"generateName": "c-", "namespace": "default", "labels": {"child": "yes"}}
                    await manager.client.create(resources.CONFIG_MAP, {"metadata": child})
                return None

            monkeypatch.setattr(world.transport, "request", request)
            controller = sdk.Controller("parent", reconcile)
            controller.watch(manager.informer(resources.NAMESPACE), only_default)
            manager.add(controller)
            await world.start(manager)
            await world.run_until_stable(limit_s=600)
            return len((await world.client.list(resources.CONFIG_MAP, label_selector="child")).items)

    assert simulate(main, seed=seed) == len(lost) == 1


def only_default(namespace: Object) -> list[Key]:
    return [objects.key(namespace)] if objects.name(namespace) == "default" else []

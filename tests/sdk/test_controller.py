"""Controllers and managers on the real API server, in process."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import anyio
import pytest

from ondol import apiserver, sdk, store
from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.base.clock import ManualClock, SystemClock
from ondol.sdk import leader, writes
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio

FAST = Backoff(initial_s=0.001, maximum_s=0.01)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0))
    async with World(app, clock=clock) as started:
        yield started


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def ours(obj: Object) -> list[Key]:
    """Only the objects of the test: the server keeps some of its own."""
    return [objects.key(obj)] if objects.namespace(obj) == "default" else []


async def test_a_key_is_never_reconciled_twice_at_once(world: World) -> None:
    """However fast the changes and however many the workers."""
    manager = world.manager()
    active: set[Key] = set()
    overlaps: list[Key] = []

    async def reconcile(key: Key) -> sdk.Result | None:
        if key in active:
            overlaps.append(key)
        active.add(key)
        await anyio.sleep(0.002)
        active.discard(key)
        return None

    controller = sdk.Controller("test", reconcile, concurrency=8)
    controller.watch(manager.informer(resources.CONFIG_MAP), ours)
    manager.add(controller)
    await world.start(manager)
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    for number in range(30):
        await world.client.patch(resources.CONFIG_MAP, "a", "default", patch={"data": {"n": str(number)}})
    await world.run_until_stable()
    assert overlaps == []
    assert 1 < controller.metrics.reconciles <= 31


async def test_errors_are_retried_and_terminal_ones_are_not(world: World) -> None:
    """The class of an error is its retry policy."""
    manager = world.manager()
    tries: dict[str, int] = {}

    async def reconcile(key: Key) -> sdk.Result | None:
        tries[key.name] = tries.get(key.name, 0) + 1
        if key.name == "hopeless":
            raise sdk.Terminal("never")
        if key.name == "bug" and tries["bug"] < 4:
            raise ZeroDivisionError
        if key.name == "early" and tries["early"] < 3:
            raise sdk.Retry("not yet", after_s=0.01)
        return None

    controller = sdk.Controller("test", reconcile, backoff=FAST)
    controller.watch(manager.informer(resources.CONFIG_MAP), ours)
    manager.add(controller)
    await world.start(manager)
    for name in ("hopeless", "bug", "early", "fine"):
        await world.client.create(resources.CONFIG_MAP, config_map(name))
    await world.run_until_stable()
    assert tries == {"hopeless": 1, "bug": 4, "early": 3, "fine": 1}
    assert (controller.metrics.errors, controller.metrics.terminal) == (3, 1)


async def test_a_result_asks_for_another_look(world: World) -> None:
    """`requeue_after_s` comes without any change of the object."""
    manager = world.manager()
    looks: list[Key] = []

    async def reconcile(key: Key) -> sdk.Result | None:
        looks.append(key)
        return sdk.Result(requeue_after_s=0.01) if len(looks) < 3 else None

    controller = sdk.Controller("test", reconcile)
    controller.watch(manager.informer(resources.CONFIG_MAP), ours)
    manager.add(controller)
    await world.start(manager)
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    await world.run_until_stable()
    assert len(looks) == 3


async def test_a_reconcile_reads_its_own_writes(world: World) -> None:
    """Between a write and its event no reconcile of that key sees the older state."""
    world.faults.latency_s = 0.05  # events arrive well after the answers to writes
    manager = world.manager()
    informer = manager.informer(resources.CONFIG_MAP)
    stale: list[tuple[int, int]] = []
    written = 0

    async def reconcile(key: Key) -> sdk.Result | None:
        nonlocal written
        cached = informer.lister.get(key)
        seen = int((cached or {}).get("data", {}).get("n", 0))
        if seen < written:
            stale.append((seen, written))
        if seen >= 5:
            return None
        written = seen + 1
        await manager.client.patch(
            resources.CONFIG_MAP, key.name, key.namespace, patch={"data": {"n": str(written)}}
        )
        return sdk.Result(requeue_after_s=0.0)

    controller = sdk.Controller("test", reconcile)
    controller.watch(informer, ours)
    manager.add(controller)
    await world.start(manager)
    await world.client.create(resources.CONFIG_MAP, config_map("a", n="0"))

    async def finished() -> bool:
        cached = await world.client.get(resources.CONFIG_MAP, "a", "default")
        return bool(cached["data"]["n"] == "5")

    await world.eventually(finished, limit_s=20)
    assert stale == []
    assert controller.metrics.delayed > 0


class Remembering:
    """An informer whose cache has an object that the server has not."""

    def __init__(self, uid: str) -> None:
        self.resource = resources.CONFIG_MAP
        self.lister = self
        self.cached: dict[str, Any] | None = {"metadata": {"name": "a", "uid": uid}}

    def get(self, _: Key) -> dict[str, Any] | None:
        return self.cached


@pytest.mark.parametrize("verb", ["patch", "delete"])
async def test_what_was_gone_must_leave_the_cache(world: World, verb: str) -> None:
    """After a write that met nothing the key waits until its cache has not this object any more."""
    informer = Remembering("one")
    client = writes.TrackedClient(
        world.client.transport,
        lambda: [cast("sdk.Informer", informer)],
        field_manager="test",
        user_agent="test",
        clock=world.clock,
    )
    missed = writes.Writes()
    writes.CURRENT.set(missed)
    call = client.delete if verb == "delete" else functools.partial(client.patch, patch={})
    with pytest.raises(errors.NotFound):
        await call(resources.CONFIG_MAP, "a", "default")
    assert not missed.seen
    informer.cached = {"metadata": {"name": "a", "uid": "two"}}  # another one of its name
    assert missed.seen


class Lagging:
    """An informer that shows writes when it is told to."""

    def __init__(self) -> None:
        self.revision = 0
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []

    def when(self, holds: Callable[[], bool], then: Callable[[], None]) -> None:
        self._waiting.append((holds, then))

    def reach(self, revision: int) -> None:
        self.revision = revision
        waiting, self._waiting = self._waiting, []
        for holds, then in waiting:
            then() if holds() else self._waiting.append((holds, then))


async def test_a_key_that_waits_for_its_writes_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys have unread writes, and though another one is reconciled just when its time is up."""
    monkeypatch.setattr("ondol.sdk.controller._REMEMBERED_MAX", 1)
    clock, informer = ManualClock(), Lagging()
    reconciled: list[str] = []

    async def reconcile(key: Key) -> sdk.Result | None:
        reconciled.append(key.name)
        writes.CURRENT.get().wrote(  # type: ignore[union-attr]  # of this reconcile
            informer,  # type: ignore[arg-type]  # all that is looked at
            {"metadata": {"resourceVersion": str(len(reconciled))}},
        )
        return None

    controller = sdk.Controller("test", reconcile, concurrency=1)
    controller.use(clock, random.Random(0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(controller.run)

        async def add(name: str) -> None:
            controller.enqueue(Key("", name))
            await anyio.wait_all_tasks_blocked()

        await add("a")
        await add("a")
        assert reconciled == ["a"]
        clock._elapsed = 5.0  # the event loop is late: the timer has not rung yet
        await add("b")
        await clock.advance(0)
        await clock.advance(1)
        assert reconciled == ["a", "b", "a"]
        await add("a")
        await add("a")
        assert reconciled == ["a", "b", "a"]
        informer.reach(len(reconciled))
        await anyio.wait_all_tasks_blocked()
        assert reconciled == ["a", "b", "a", "a"]
        assert controller.metrics.delayed == 2
        tasks.cancel_scope.cancel()


async def test_a_reconcile_sees_what_it_deleted_gone(world: World) -> None:
    """A delete is a write too."""
    world.faults.latency_s = 0.05
    manager = world.manager()
    informer = manager.informer(resources.CONFIG_MAP)
    deletes: list[str] = []

    async def reconcile(key: Key) -> sdk.Result | None:
        if informer.lister.get(key) is not None:
            answer = await manager.client.delete(resources.CONFIG_MAP, key.name, key.namespace)
            deletes.append(str(answer.get("kind")))
            return sdk.Result(requeue_after_s=0.0)
        return None

    controller = sdk.Controller("test", reconcile)
    controller.watch(informer, ours)
    manager.add(controller)
    await world.start(manager)
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    await world.run_until_stable(quiet_s=0.5)
    await world.assert_gone(resources.CONFIG_MAP, "a", "default")
    assert len(deletes) == 1


async def test_informers_are_shared_by_selection(world: World) -> None:
    """Two who ask for the same objects cost one watch."""
    manager = world.manager()
    first = manager.informer(resources.CONFIG_MAP)
    assert manager.informer(resources.CONFIG_MAP) is first
    assert manager.informer(resources.CONFIG_MAP, namespace="default") is not first


async def test_informers_are_not_shared_by_those_who_shape_documents_differently(world: World) -> None:
    """The second would get the first one's documents without a word."""
    manager = world.manager()

    def bare(obj: Object) -> Object:
        return {"metadata": obj["metadata"]}

    first = manager.informer(resources.CONFIG_MAP, transform=bare)
    assert manager.informer(resources.CONFIG_MAP, transform=bare) is first
    with pytest.raises(ValueError, match="another transform"):
        manager.informer(resources.CONFIG_MAP)


async def test_who_changes_a_document_of_an_informer_hears_of_it(world: World) -> None:
    """In a world of tests: at the line that does it, while copies may be changed."""
    manager = world.manager()
    informer = manager.informer(resources.CONFIG_MAP, namespace="default")
    await world.start(manager)
    metadata = {"name": "a", "namespace": "default", "finalizers": ["test.dev/a"], "labels": {"a": "1"}}
    await world.client.create(resources.CONFIG_MAP, {"metadata": metadata})
    await world.run_until_stable()
    obj = informer.lister.get(Key("default", "a"))
    assert obj is not None
    changes: list[Callable[[], object]] = [
        lambda: obj.update(data={}),
        lambda: obj["metadata"].pop("labels"),
        lambda: obj["metadata"]["labels"].setdefault("b", "2"),
        lambda: obj["metadata"]["finalizers"].append("test.dev/b"),
        obj["metadata"]["finalizers"].clear,
    ]
    for change in changes:
        with pytest.raises(TypeError, match="copy it before you change it"):
            change()
    for own in (copy.deepcopy(obj), {**obj, "metadata": copy.copy(obj["metadata"])}):
        own["metadata"]["name"] = "b"
    copy.deepcopy(obj)["metadata"]["finalizers"].append("test.dev/b")
    assert obj["metadata"]["finalizers"] == ["test.dev/a"]
    await world.client.update(resources.CONFIG_MAP, obj)


async def test_an_informer_may_be_asked_for_while_the_manager_runs(world: World) -> None:
    """A kind that becomes interesting later is watched from then on."""
    manager = await world.start(world.manager())
    await anyio.wait_all_tasks_blocked()
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    informer = manager.informer(resources.CONFIG_MAP, namespace="default")
    with anyio.fail_after(5):
        await informer.wait_synced()
    assert informer.lister.get(Key("default", "a")) is not None


async def test_started_is_told_after_caches_are_synced(world: World) -> None:
    """Whoever waits for the manager finds full caches."""
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    manager = world.manager()
    informer = manager.informer(resources.CONFIG_MAP, namespace="default")
    async with anyio.create_task_group() as tasks:
        await tasks.start(manager.run)
        assert informer.lister.get(Key("default", "a")) is not None
        tasks.cancel_scope.cancel()


async def test_stopping_finishes_what_is_being_reconciled(world: World) -> None:
    """A graceful stop lets a reconcile end by itself."""
    manager = world.manager()
    begun, ended = anyio.Event(), anyio.Event()

    async def reconcile(_key: Key) -> sdk.Result | None:
        begun.set()
        await anyio.sleep(0.05)
        ended.set()
        return None

    controller = sdk.Controller("test", reconcile)
    controller.watch(manager.informer(resources.CONFIG_MAP), ours)
    manager.add(controller)
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(manager.run)
            await begun.wait()
            manager.stop()
    assert ended.is_set()


async def test_a_reconcile_that_does_not_end_is_cut_off_when_the_manager_stops() -> None:
    """It has half a minute of the manager's own clock; then the process may end."""
    clock = ManualClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(1))
    begun, stopped = anyio.Event(), anyio.Event()

    async def reconcile(_key: Key) -> sdk.Result | None:
        begun.set()
        await anyio.sleep_forever()
        return None

    async with World(app, clock=clock) as world:
        manager = world.manager()
        controller = sdk.Controller("test", reconcile)
        controller.watch(manager.informer(resources.CONFIG_MAP), ours)
        manager.add(controller)
        await world.client.create(resources.CONFIG_MAP, config_map("a"))

        async def run() -> None:
            await manager.run()
            stopped.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await begun.wait()
            manager.stop()
            await anyio.wait_all_tasks_blocked()
            await clock.advance(29.0)
            assert not stopped.is_set()
            await clock.advance(1.0)
            assert stopped.is_set()


async def test_runnables_run_beside_controllers(world: World) -> None:
    """Servers and loops join the manager; it refuses them once it runs."""
    manager = world.manager()
    ran = anyio.Event()

    async def serve() -> None:
        ran.set()

    manager.add_runnable(serve, "server")
    await world.start(manager)
    with anyio.fail_after(5):
        await ran.wait()
    with pytest.raises(RuntimeError, match="late"):
        manager.add_runnable(serve, "late")


async def test_metrics_name_each_part(world: World) -> None:
    """Queues, reconciles and informers are counted under the names that client-go's have."""
    manager = world.manager()

    async def reconcile(_key: Key) -> sdk.Result | None:
        return None

    controller = sdk.Controller("mine", reconcile)
    controller.watch(manager.informer(resources.CONFIG_MAP), ours)
    manager.add(controller)
    await world.start(manager)
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    await world.run_until_stable()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in manager.metrics()
        for sample in family.samples
    }
    assert samples["controller_runtime_reconcile_total", "mine", "success"] == 1
    assert samples["controller_runtime_reconcile_time_seconds_count", "mine"] == 1
    assert samples["workqueue_adds_total", "mine"] == 1
    assert samples["workqueue_depth", "mine"] == 0
    assert samples["workqueue_queue_duration_seconds_count", "mine"] == 1
    assert samples["workqueue_work_duration_seconds_count", "mine"] == 1
    assert samples["ondol_informer_watches_total", "configmaps"] == 1
    assert samples["ondol_informer_objects", "configmaps"] == 1


async def test_reconciles_are_counted_by_their_result(world: World) -> None:
    """Done, to be called again, failed and tried again, failed for good: each once."""
    manager = world.manager()

    async def reconcile(key: Key) -> sdk.Result | None:
        match key.name:
            case "again":
                return sdk.Result(requeue_after_s=3600)
            case "later":
                raise sdk.Retry("not yet", after_s=3600)
            case "never":
                raise sdk.Terminal("it cannot be")
            case _:
                return None

    controller = sdk.Controller("mine", reconcile)
    controller.watch(manager.informer(resources.CONFIG_MAP), ours)
    manager.add(controller)
    await world.start(manager)
    for name in ("again", "later", "never", "fine"):
        await world.client.create(resources.CONFIG_MAP, config_map(name))
    await world.run_until_stable()
    counts = {
        sample.labels["result"]: sample.value
        for family in manager.metrics()
        if family.name == "controller_runtime_reconcile"
        for sample in family.samples
    }
    assert counts == {"error": 1, "requeue_after": 2, "success": 1}


async def test_events_are_counted_not_repeated(world: World) -> None:
    """The same words about the same object raise a count; many similar words are combined."""
    manager = await world.start(world.manager("tester"))
    obj = await world.client.create(resources.CONFIG_MAP, config_map("a"))
    for _ in range(5):
        manager.recorder.event(obj, "Normal", "Seen", "it is there")
        await world.run_until_stable(quiet_s=0.02)
    for number in range(30):
        manager.recorder.event(obj, "Warning", "Odd", f"number {number}")
    await world.run_until_stable()
    items = (await world.client.list(resources.EVENT, "default")).items
    seen = [event for event in items if event["reason"] == "Seen"]
    odd = [event for event in items if event["reason"] == "Odd"]
    assert [event["count"] for event in seen] == [5]
    assert seen[0]["involvedObject"]["uid"] == objects.uid(obj)
    assert seen[0]["source"] == {"component": "tester"}
    assert len(odd) == 11
    assert [event["message"] for event in odd[:10]] == [f"number {number}" for number in range(10)]
    assert sum(event["count"] for event in odd) == 30


async def test_only_the_holder_of_the_lease_acts(world: World) -> None:
    """A second copy waits until the first lets its lease run out, then takes over."""
    lease = sdk.Lease("test", "default", duration_s=1, renew_deadline_s=0.6, retry_s=0.05)
    acted: list[str] = []
    managers: list[sdk.Manager] = []
    for identity in ("first", "second"):
        base = world.manager(identity)
        manager = sdk.Manager(base.client, clock=world.clock, rng=world.rng, identity=identity, lease=lease)

        async def reconcile(_key: Key, who: str = identity) -> sdk.Result | None:
            acted.append(who)
            return None

        controller = sdk.Controller(identity, reconcile)
        controller.watch(manager.informer(resources.CONFIG_MAP), ours)
        manager.add(controller)
        await world.start(manager)
        managers.append(manager)
        await anyio.sleep(0.1)
    await world.client.create(resources.CONFIG_MAP, config_map("a"))
    await anyio.sleep(0.2)
    assert acted == ["first"]
    world.crash(managers[0])
    await anyio.sleep(2.2)
    assert acted == ["first", "second"]
    lease_now = await world.client.get(resources.LEASE, "test", "default")
    assert lease_now["spec"]["holderIdentity"] == "second"
    assert lease_now["spec"]["leaseTransitions"] == 1


async def test_losing_the_lease_ends_the_manager(world: World) -> None:
    """A leader that cannot renew stops before another may begin."""
    lease = sdk.Lease("test", "default", duration_s=1, renew_deadline_s=0.2, retry_s=0.05)
    base = world.manager()
    manager = sdk.Manager(base.client, clock=world.clock, identity="one", lease=lease)

    async def lose_it() -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(manager.run)
            world.faults.unavailable = 1.0

    with anyio.fail_after(5):
        with pytest.raises(ExceptionGroup) as caught:
            await lose_it()
    assert caught.group_contains(leader.LeadershipLost)

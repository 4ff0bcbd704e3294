"""What the framework does around an author's `reconcile`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

import anyio
import pytest
import structlog

from ondol import apiserver, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.base.clock import SystemClock
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio


class JobSpec(sdk.Model, frozen=True):
    parts: tuple[str, ...] = ()
    source: str = ""


class JobStatus(sdk.Status, frozen=True):
    phase: str = ""
    count: int = 0
    seen: tuple[str, ...] = ()


@sdk.custom_resource(group="work.test")
class Task(sdk.CustomResource, frozen=True):
    """A task."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


TASK = Task.definition.resource
Body = Callable[[sdk.Context[Task]], Awaitable[sdk.Result | None]]


class Worker(sdk.Operator[Task]):
    """Does what the test says."""

    name = "worker"
    owns: ClassVar[tuple[Resource, ...]] = (resources.CONFIG_MAP,)
    backoff = Backoff(initial_s=0.005, maximum_s=0.02)

    def __init__(self, body: Body) -> None:
        self.body = body

    async def reconcile(self, ctx: sdk.Context[Task]) -> sdk.Result | None:
        return await self.body(ctx)


@asynccontextmanager
async def running(operator: sdk.Operator[Any]) -> AsyncIterator[tuple[World, sdk.Manager]]:
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0))
    async with World(app, clock=clock) as world:
        await sdk.install_crds(world.client, [Task])
        yield world, await world.start(operator)


async def create(world: World, name: str = "a", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "default"}
    created = await world.client.create(TASK, {"metadata": metadata, "spec": spec})
    await world.run_until_stable()
    return created


def part(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def apply_parts(ctx: sdk.Context[Task]) -> sdk.Result | None:
    for name in ctx.object.spec.parts:
        await ctx.apply(part(name, of=ctx.name))
    return None


async def names(world: World) -> list[str]:
    items = (await world.client.list(resources.CONFIG_MAP, "default", label_selector="")).items
    return sorted(objects.name(obj) for obj in items if objects.controller_of(obj))


async def ready_message(world: World, resource: Resource, name: str, namespace: str = "") -> str:
    """The message of the object's Ready condition, which is False, once there is one."""
    with anyio.fail_after(30):
        while True:
            ready = conditions.get(await world.client.get(resource, name, namespace), "Ready")
            if ready is not None:
                assert ready["status"] == "False"
                return str(ready["message"])
            await world.advance(0.05)


async def reasons(world: World) -> list[str]:
    return sorted(event["reason"] for event in (await world.client.list(resources.EVENT, "default")).items)


async def test_children_are_owned_labelled_and_pruned() -> None:
    """A child that is no longer applied is deleted; others are left alone."""
    async with running(Worker(apply_parts)) as (world, _):
        await world.client.create(
            resources.CONFIG_MAP,
            part("stranger") | {"metadata": {"name": "stranger", "namespace": "default"}},
        )
        task = await create(world, parts=["x", "y"])
        child = await world.client.get(resources.CONFIG_MAP, "x", "default")
        assert objects.is_controlled_by(child, task)
        assert objects.labels(child)["app.kubernetes.io/managed-by"] == "worker"
        assert {entry["manager"] for entry in objects.metadata(child)["managedFields"]} == {"worker"}
        await world.client.patch(TASK, "a", "default", patch={"spec": {"parts": ["y"]}})
        await world.run_until_stable()
        assert await names(world) == ["y"]
        assert await world.get(resources.CONFIG_MAP, "stranger", "default") is not None


async def test_an_unchanged_child_costs_no_request() -> None:
    """What was applied and still looks so is not applied again, for the same description."""
    async with running(Worker(apply_parts)) as (world, manager):
        await create(world, parts=["x", "y"])
        before = world.transport.writes
        for number in range(5):
            manager.controllers[0].enqueue(Key("default", "a"))
            await world.run_until_stable()
            assert world.transport.writes == before, number


async def test_a_reconcile_that_fails_prunes_nothing() -> None:
    """Only one that returned has said what should be there."""
    fail = False

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        if fail:
            raise sdk.Retry("waiting", after_s=60)
        return await apply_parts(ctx)

    async with running(Worker(body)) as (world, _):
        await create(world, parts=["x"])
        fail = True
        await world.client.patch(TASK, "a", "default", patch={"spec": {"parts": []}})
        await world.run_until_stable()
        assert await names(world) == ["x"]


async def test_pruning_can_be_put_off() -> None:
    """`keep_children` is for a reconcile that has not looked at all of them."""

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        await apply_parts(ctx)
        ctx.keep_children()
        return None

    async with running(Worker(body)) as (world, _):
        await create(world, parts=["x"])
        await world.client.patch(TASK, "a", "default", patch={"spec": {"parts": []}})
        await world.run_until_stable()
        assert await names(world) == ["x"]


async def test_one_child_can_be_kept() -> None:
    """`keep` is for a child that is left as it is; those neither applied nor kept are pruned."""

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        if ctx.object.spec.parts:
            await apply_parts(ctx)
        elif (child := ctx.child(resources.CONFIG_MAP, "x")) is not None:
            ctx.keep(child)
        return None

    async with running(Worker(body)) as (world, _):
        await create(world, parts=["x", "y"])
        await world.client.patch(TASK, "a", "default", patch={"spec": {"parts": []}})
        await world.run_until_stable()
        assert await names(world) == ["x"]


async def test_a_child_can_be_deleted_at_once() -> None:
    """`delete` takes a child of the object, before the reconcile ends and only that very one."""

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        await apply_parts(ctx)
        if not ctx.object.spec.parts:
            ctx.keep_children()
            for child in ctx.children(resources.CONFIG_MAP):
                await ctx.delete(child)
                await ctx.delete(child)  # gone: no error
            await refuse_stranger(ctx)
        return None

    async def refuse_stranger(ctx: sdk.Context[Task]) -> None:
        stranger = await ctx.client.get(resources.CONFIG_MAP, "stranger", "default")
        with pytest.raises(TypeError, match="ConfigMap default/stranger is no child of Task default/a"):
            await ctx.delete(stranger)
        ctx.set_status(phase="Refused")

    async with running(Worker(body)) as (world, _):
        metadata = {"name": "stranger", "namespace": "default"}
        await world.client.create(resources.CONFIG_MAP, {"metadata": metadata})
        await create(world, parts=["x", "y"])
        await world.client.patch(TASK, "a", "default", patch={"spec": {"parts": []}})
        await world.run_until_stable()
        assert await names(world) == []
        assert (await world.client.get(TASK, "a", "default"))["status"]["phase"] == "Refused"


async def test_status_is_written_once_and_by_difference() -> None:
    """Only changed fields are patched; an unchanged status costs nothing; others' fields survive."""

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        ctx.set_status(phase="Fine", count=0, seen=("a", "b"))
        ctx.set_condition("Ready", True, "AllGood")
        return None

    async with running(Worker(body)) as (world, _):
        await create(world)
        task = await world.client.get(TASK, "a", "default")
        assert (task["status"]["phase"], task["status"]["count"]) == ("Fine", 0)
        assert task["status"]["observedGeneration"] == 1
        assert conditions.is_true(task, "Ready")
        before = world.transport.writes
        await world.client.patch(TASK, "a", "default", patch={"metadata": {"labels": {"look": "again"}}})
        await world.run_until_stable()
        assert world.transport.writes == before


async def test_an_object_made_anew_gets_no_old_status() -> None:
    """What a reconcile found of an object that went away is not written on its successor."""
    uids: list[str] = []

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        uids.append(ctx.object.uid)
        if len(uids) == 1:
            await ctx.client.delete(TASK, ctx.name, ctx.namespace)
            metadata = {"name": ctx.name, "namespace": ctx.namespace}
            await ctx.client.create(TASK, {"metadata": metadata, "spec": {}})
            ctx.set_status(phase="Old")
        return None

    async with running(Worker(body)) as (world, _):
        await create(world)
        task = await world.client.get(TASK, "a", "default")
        assert objects.uid(task) == uids[-1] != uids[0]
        assert objects.status(task).get("phase", "") == ""


async def test_nothing_is_remembered_of_what_is_gone() -> None:
    """Objects that come and go leave nothing behind in a long-lived operator."""
    remembered: list[int] = []

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        await apply_parts(ctx)
        remembered.append(max(len(ctx._tools.children._applied), len(ctx._tools.owned_status)))
        return None

    async with running(Worker(body)) as (world, _):
        for name in ("a", "b", "c"):
            await create(world, name, parts=[name])
            await world.client.delete(TASK, name, "default")
            await world.run_until_stable()
    assert set(remembered) == {1}


async def test_a_status_field_that_does_not_exist_is_a_bug() -> None:
    """It is told on the object, not dropped in silence."""

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        ctx.set_status(phrase="typo")
        return None

    async with running(Worker(body)) as (world, _):
        await world.client.create(TASK, {"metadata": {"name": "a", "namespace": "default"}})

        async def is_reported() -> bool:
            return conditions.is_false(await world.client.get(TASK, "a", "default"), "Ready")

        await world.eventually(is_reported)
        ready = conditions.get(await world.client.get(TASK, "a", "default"), "Ready")
        assert ready is not None
        assert ready["reason"] == "ReconcileFailed"
        assert "no field phrase" in ready["message"]


async def test_giving_up_is_told_and_not_retried() -> None:
    """A terminal error becomes a condition and an event, and waits for a change of the object."""
    tries = 0

    async def body(_ctx: sdk.Context[Task]) -> sdk.Result | None:
        nonlocal tries
        tries += 1
        raise sdk.Terminal("no such source")

    async with running(Worker(body)) as (world, _):
        await create(world)
        assert tries == 1
        task = await world.client.get(TASK, "a", "default")
        ready = conditions.get(task, "Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"], ready["message"]) == ("False", "GaveUp", "no such source")
        assert task["status"]["observedGeneration"] == 1
        assert await reasons(world) == ["GaveUp"]
        await world.client.patch(TASK, "a", "default", patch={"spec": {"source": "y"}})
        await world.run_until_stable()
        assert tries == 2


async def test_passing_failures_say_nothing_about_the_object() -> None:
    """Conflicts and busy servers are retried without a word in its status."""
    tries = 0

    async def body(_ctx: sdk.Context[Task]) -> sdk.Result | None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise errors.Conflict("too slow")
        return None

    async with running(Worker(body)) as (world, _):
        await create(world)
        task = await world.client.get(TASK, "a", "default")
        assert tries == 4
        assert conditions.of(task) == ()
        assert await reasons(world) == []


async def test_a_finalizer_runs_before_the_object_goes() -> None:
    """It may ask for more time, and failing it keeps the object."""
    calls: list[str] = []

    class Careful(Worker):
        async def finalize(self, ctx: sdk.Context[Task]) -> sdk.Result | None:
            calls.append(ctx.name)
            if len(calls) == 1:
                return sdk.Result(requeue_after_s=0.01)
            if len(calls) == 2:
                raise RuntimeError("not yet")
            return None

    async with running(Careful(apply_parts)) as (world, _):
        await create(world)
        live = await world.client.get(TASK, "a", "default")
        assert objects.finalizers(live) == ("work.test/worker",)
        await world.client.delete(TASK, "a", "default")
        await world.run_until_stable()
        await world.assert_gone(TASK, "a", "default")
        assert calls == ["a", "a", "a"]


async def test_an_operator_outlives_its_definition() -> None:
    """It waits for a kind that is not there yet, and goes on when the kind went away and came back."""
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0))
    async with World(app, clock=clock) as world:
        await world.start(Worker(apply_parts))
        await world.advance(0.3)
        definition = f"{TASK.plural}.{TASK.group}"
        for name in ("first", "second"):
            await sdk.install_crds(world.client, [Task])
            metadata = {"name": name, "namespace": "default"}
            await world.client.create(TASK, {"metadata": metadata, "spec": {"parts": [name]}})
            with anyio.fail_after(30):
                while name not in await names(world):
                    await world.advance(0.05)
            await world.client.delete(resources.CUSTOM_RESOURCE_DEFINITION, definition)
            with anyio.fail_after(30):
                while await world.get(resources.CUSTOM_RESOURCE_DEFINITION, definition) is not None:
                    await world.advance(0.05)


async def test_without_finalize_there_is_no_finalizer() -> None:
    """An operator with nothing to undo never holds a deletion up."""
    async with running(Worker(apply_parts)) as (world, _):
        live = await create(world)
        assert objects.finalizers(live) == ()
        await world.client.delete(TASK, "a", "default")
        await world.assert_gone(TASK, "a", "default")


async def test_another_controllers_child_is_not_taken() -> None:
    """The name is taken: that is told, and nothing overwritten."""
    async with running(Worker(apply_parts)) as (world, _):
        owner = {"apiVersion": "v1", "kind": "Secret", "name": "o", "uid": "1", "controller": True}
        labels = {"app.kubernetes.io/managed-by": "worker"}
        metadata = {"name": "x", "namespace": "default", "ownerReferences": [owner], "labels": labels}
        await world.client.create(resources.CONFIG_MAP, {"metadata": metadata, "data": {"of": "other"}})
        await world.client.create(
            TASK, {"metadata": {"name": "a", "namespace": "default"}, "spec": {"parts": ["x"]}}
        )
        ready = await ready_message(world, TASK, "a", "default")
        assert ready == "ConfigMap default/x belongs to another controller"
        live = await world.client.get(resources.CONFIG_MAP, "x", "default")
        assert live["data"] == {"of": "other"}


async def test_undeclared_children_are_refused() -> None:
    """A kind that is not in `owns` would be neither watched nor pruned."""
    seen: list[str] = []

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        for child in (
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s", "namespace": "other"}},
        ):
            try:
                await ctx.apply(child)
            except TypeError as error:
                seen.append(str(error))
        return None

    async with running(Worker(body)) as (world, _):
        await create(world)
    assert "does not name v1 Secret" in seen[0]
    assert "another namespace" in seen[1]


@sdk.custom_resource(group="work.test", namespaced=False)
class Team(sdk.CustomResource, frozen=True):
    """Of the whole cluster."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class Lead(sdk.Operator[Team]):
    owns: ClassVar[tuple[Resource, ...]] = (resources.CONFIG_MAP,)

    async def reconcile(self, ctx: sdk.Context[Team]) -> sdk.Result | None:
        for name in ctx.object.spec.parts:
            child = part(name)
            child["metadata"]["namespace"] = ctx.object.spec.source
            await ctx.apply(child)
        return None


async def test_a_cluster_scoped_owner_names_the_namespace_of_each_child() -> None:
    """It has none to lend; a child without one is the author's mistake, told as such."""
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0))
    async with World(app, clock=clock) as world:
        await sdk.install_crds(world.client, [Team])
        await world.start(Lead())
        team = Team.definition.resource
        spec = {"parts": ["x"], "source": "default"}
        await world.client.create(team, {"metadata": {"name": "good"}, "spec": spec})
        await world.client.create(team, {"metadata": {"name": "bad"}, "spec": {"parts": ["y"]}})
        message = await ready_message(world, team, "bad")
        assert message == "ConfigMap y needs a namespace, for its owner is in none"
        with anyio.fail_after(30):
            while await names(world) != ["x"]:
                await world.advance(0.05)


async def test_other_kinds_wake_the_objects_they_concern() -> None:
    """A watched source triggers exactly those that use it, and is read from the cache."""
    seen: list[str] = []

    class Reader(Worker):
        owns = ()

        def watches(self) -> Iterable[sdk.Watch]:
            return [sdk.Watch(resources.SECRET, lambda obj: [Key("default", objects.name(obj))])]

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        secret = ctx.lister(resources.SECRET).get(ctx.key)
        seen.append(f"{ctx.name}:{(secret or {}).get('type', 'none')}")
        return None

    async with running(Reader(body)) as (world, _):
        await create(world, "a")
        await create(world, "b")
        seen.clear()
        metadata = {"name": "a", "namespace": "default"}
        await world.client.create(resources.SECRET, {"metadata": metadata, "type": "x"})
        await world.run_until_stable()
        assert seen == ["a:x"]


async def test_an_object_that_does_not_fit_its_type_is_told() -> None:
    """Stored before the schema was tightened, say: the event names the field, and nothing loops."""
    calls: list[str] = []

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        calls.append(ctx.name)
        return None

    async with running(Worker(body)) as (world, manager):
        crd = sdk.crd(Task)
        properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        properties["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        await sdk.install_crds(world.client, [crd])
        await create(world, parts=7)
        assert calls == []
        assert await reasons(world) == ["InvalidObject"]
        assert manager.controllers[0].metrics.terminal >= 1


class Guarded(sdk.Model, frozen=True):
    """What rules hold to."""

    low: int = 0
    high: int = 9


@sdk.custom_resource(group="work.test")
class Range(sdk.CustomResource, frozen=True):
    """A kind with a rule."""

    spec: Annotated[Guarded, sdk.rules(("self.low < self.high", "low comes first"))] = Guarded()


class Warned:
    """An admission that warns of every definition."""

    async def mutate(self, context: Any, request: Any) -> None:
        pass

    async def validate(self, context: Any, request: Any) -> None:
        if request.served.kind.kind == "CustomResourceDefinition" and request.operation == "create":
            context.warn("this is an old kind")


async def test_what_the_server_warns_of_a_definition_is_logged() -> None:
    """Its author must know; the client's own listener hears of it too."""
    clock = SystemClock()
    app = apiserver.build(
        apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0), admission=Warned()
    )
    heard: list[str] = []
    async with World(app, clock=clock) as world:
        world.client.on_warning = heard.append
        with structlog.testing.capture_logs() as lines:
            await sdk.install_crds(world.client, [Range])
    (line,) = [line for line in lines if line["event"] == "definition_warning"]
    assert (line["crd"], line["log_level"]) == ("ranges.work.test", "warning")
    assert "this is an old kind" in line["warning"]
    assert heard == [line["warning"]]


async def test_a_status_keeps_what_others_and_earlier_reconciles_wrote() -> None:
    """Another writer's condition that came meanwhile, and own ones that are not set every time."""
    rounds: list[int] = []

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        rounds.append(1)
        if len(rounds) == 1:
            ctx.set_condition("Built", status=True)
            ctx.set_status(phase="Built")
            other = {"type": "Audited", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            patch = {"status": {"conditions": [other]}}
            await world.client.patch(TASK, "a", "default", patch=patch, subresource="status")
        else:
            ctx.set_condition("Ready", status=True, message=str(len(rounds)))
        return None

    async with running(Worker(body)) as (world, manager):
        await create(world)
        written = [c["type"] for c in conditions.of(await world.client.get(TASK, "a", "default"))]
        assert sorted(written) == ["Audited", "Built"]
        world.crash(manager)
        await world.start(Worker(body))
        await world.run_until_stable()
        task = await world.client.get(TASK, "a", "default")
        assert sorted(c["type"] for c in conditions.of(task)) == ["Audited", "Built", "Ready"]
        assert objects.status(task)["phase"] == "Built"
        appliers = [m for m in objects.metadata(task)["managedFields"] if m["operation"] == "Apply"]
        assert [(m["manager"], m["subresource"]) for m in appliers] == [("worker", "status")]


async def test_a_status_whose_answer_was_lost_is_not_taken_back() -> None:
    """It may have been written: what the next reconcile does not set again stays all the same."""
    rounds = iter(("Early", "Built", "Ready"))

    async def body(ctx: sdk.Context[Task]) -> sdk.Result | None:
        type_ = next(rounds)
        world.faults.lost_reply = 1.0 if type_ == "Built" else 0.0
        ctx.set_condition(type_, status=True)
        return None

    async with running(Worker(body)) as (world, _):
        await create(world)
        await world.client.patch(TASK, "a", "default", patch={"spec": {"source": "x"}})
        await world.run_until_stable()
        task = await world.client.get(TASK, "a", "default")
        assert sorted(c["type"] for c in conditions.of(task)) == ["Built", "Early", "Ready"]

"""A world with Eventing's control plane, where the data plane is played: it agrees to everything at once."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ondol import apiserver, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.contracts import eventing
from ondol.eventing import wiring
from ondol.eventing.kinds.rules import Configuration, rules
from ondol.eventing.wiring import EventingConfig
from ondol.sdk import status
from ondol.sdk.testing import Faults, LoopClock, World, simulate

NAMESPACE = "default"
PLANE = ("192.0.2.10", 8008)
_MANAGER = "ondol-events"
_CONTROL = "ondol-control"
OWNED = {
    eventing.CHANNEL: {eventing.IN_MEMORY_CHANNEL},
    eventing.IN_MEMORY_CHANNEL: {resources.SERVICE, resources.ENDPOINT_SLICE},
    eventing.SEQUENCE: {eventing.IN_MEMORY_CHANNEL, eventing.SUBSCRIPTION},
    eventing.PARALLEL: {eventing.IN_MEMORY_CHANNEL, eventing.SUBSCRIPTION},
    eventing.BROKER: {eventing.DEAD_LETTER},
    eventing.TRIGGER: {resources.SERVICE_ACCOUNT},
    eventing.SUBSCRIPTION: {resources.SERVICE_ACCOUNT},
}
"""What goes with its owner."""


class PlayedPlane:
    """What the process `events` writes: its conditions, and what became of a channel's subscribers."""

    def __init__(self, manager: sdk.Manager) -> None:
        self._clock = manager.clock
        self._informers = {resource: manager.informer(resource) for resource in eventing.PLANE_CONDITIONS}
        self._writers = {
            resource: status.Writer(manager.client, resource, field_manager=_MANAGER, conditions=types)
            for resource, types in eventing.PLANE_CONDITIONS.items()
        }
        for resource in self._informers:
            controller = sdk.Controller(f"plane-{resource.plural}", self._reconciler(resource))
            controller.watch(self._informers[resource])
            manager.add(controller)

    def _reconciler(self, resource: Resource) -> Callable[[Key], Awaitable[None]]:
        async def reconcile(key: Key) -> None:
            obj = self._informers[resource].lister.get(key)
            if obj is None or objects.is_deleting(obj):
                return
            listed: list[Object] = [dict(c) for c in conditions.of(obj)]
            for type_ in eventing.PLANE_CONDITIONS[resource]:
                listed = conditions.set(listed, type_, "True", now=self._clock.now())
            desired: Object = {"conditions": listed}
            if resource == eventing.IN_MEMORY_CHANNEL:
                desired["subscribers"] = [
                    {"uid": s["uid"], "observedGeneration": s["generation"], "ready": "True"}
                    for s in objects.spec(obj).get("subscribers") or ()
                ] or None
            await self._writers[resource].write(obj, desired)

        return reconcile


def collector(world: World) -> sdk.Manager:
    """A garbage collector without faults: what has lost its owner goes."""
    manager = sdk.Manager(world.client, clock=world.clock, rng=world.rng, identity="collector")
    by_kind = {parent.kind: parent for parent in OWNED}
    for resource in sorted(set().union(*OWNED.values()), key=lambda r: r.plural):
        controller = sdk.Controller(f"collector-{resource.plural}", _collecting(world, resource, by_kind))
        children = manager.informer(resource)
        controller.watch(children)
        for parent in (parent for parent, owned in OWNED.items() if resource in owned):
            gone = manager.informer(parent)
            controller.watch(gone, _keys_of(children), predicate=lambda _, new: new is None)
        manager.add(controller)
    return manager


def _keys_of(informer: sdk.Informer) -> Callable[[Object], list[Key]]:
    return lambda _: [objects.key(obj) for obj in informer.lister.list()]


def _collecting(
    world: World, resource: Resource, by_kind: Mapping[str, Resource]
) -> Callable[[Key], Awaitable[None]]:
    async def collect(key: Key) -> None:
        child = await world.get(resource, key.name, key.namespace)
        owner = objects.controller_of(child or {})
        if child is None or owner is None or owner["kind"] not in by_kind:
            return
        live = await world.get(by_kind[owner["kind"]], owner["name"], key.namespace)
        if (live is None or objects.uid(live) != owner["uid"]) and not objects.is_deleting(child):
            await sdk.children.delete(world.client, resource, child)

    return collect


class Scene:
    """What a test works with."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.client
        self.demands = 0

    async def start(self) -> sdk.Manager:
        """The control plane, anew."""
        manager = self.world.manager(_CONTROL)

        def demand() -> None:
            self.demands += 1

        wiring.add_to(manager, EventingConfig(*PLANE, demand=demand))
        return await self.world.start(manager)

    def crash(self) -> None:
        """End the control plane where it stands; two at once would each write what it sees."""
        self.world.crash(next(each for each in self.world.managers if each.identity == _CONTROL))

    async def start_plane(self) -> sdk.Manager:
        manager = self.world.manager(_MANAGER)
        PlayedPlane(manager)
        return await self.world.start(manager)

    async def create(
        self,
        resource: Resource,
        name: str,
        spec: Mapping[str, Any],
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        namespace: str = NAMESPACE,
    ) -> Object:
        metadata: Object = {"name": name, "namespace": namespace}
        if annotations:
            metadata["annotations"] = dict(annotations)
        if labels:
            metadata["labels"] = dict(labels)
        return await self.client.create(
            resource,
            {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": metadata,
                "spec": dict(spec),
            },
        )

    async def service(self, name: str, namespace: str = NAMESPACE) -> Object:
        """Somebody to send events to."""
        spec = {"ports": [{"port": 80}]}
        return await self.create(resources.SERVICE, name, spec, namespace=namespace)

    async def get(self, resource: Resource, name: str, namespace: str = NAMESPACE) -> Object:
        return await self.client.get(resource, name, namespace)

    async def settled(self, resource: Resource, name: str) -> Object:
        """The object once nothing more is written."""
        await self.world.run_until_stable(quiet_s=30, limit_s=2000)
        return await self.get(resource, name)

    async def settles(self) -> None:
        """Nothing more is written from now on."""
        await self.world.run_until_stable(quiet_s=330, limit_s=20_000)
        writes = self.world.transport.writes
        await self.world.run_until_stable(quiet_s=330, limit_s=20_000)
        assert self.world.transport.writes == writes, f"writes went on (seed {self.world.seed})"


Story = Callable[[Scene], Awaitable[None]]


def play(
    story: Story, *, seed: int = 0, faults: Faults | None = None, control: bool = True, plane: bool = True
) -> Scene:
    """Play a story on virtual time, with both planes from its beginning unless it starts them itself."""
    scenes: list[Scene] = []

    async def run() -> None:
        clock = LoopClock()
        configuration = Configuration()
        app = apiserver.build(
            apiserver.ApiConfig(),
            store.open_memory(),
            clock,
            random.Random(seed),
            rules=rules(configuration),
        )
        configuration.lookup = app.core.lookup
        async with World(app, clock=clock, seed=seed, faults=faults) as world:
            # By POST: an apply of so large a document would be read in a thread, which has no virtual time.
            for crd in wiring.crds():
                await world.client.create(resources.CUSTOM_RESOURCE_DEFINITION, crd)
            await world.advance(1)
            scene = Scene(world)
            await world.start(collector(world))
            scenes.append(scene)
            if control:
                await scene.start()
            if plane:
                await scene.start_plane()
            await story(scene)

    simulate(run, seed=seed)
    return scenes[0]


def condition(obj: Object, type_: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    shown = conditions.get(obj, type_) or {}
    return str(shown.get("status") or ""), str(shown.get("reason") or ""), str(shown.get("message") or "")


def statuses(obj: Object) -> dict[str, str]:
    """The status of each condition."""
    return {str(c["type"]): str(c["status"]) for c in conditions.of(obj)}


def not_true(obj: Object) -> dict[str, tuple[str, str]]:
    """The conditions that keep an object from being ready, with their reasons."""
    return {
        str(c["type"]): (str(c["status"]), str(c.get("reason") or ""))
        for c in conditions.of(obj)
        if c["status"] != "True"
    }

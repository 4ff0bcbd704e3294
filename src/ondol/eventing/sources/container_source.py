"""Reconciles ContainerSources: a SinkBinding, and the Deployment that it binds."""

from __future__ import annotations

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import wellknown
from ondol.eventing.configuration.live import Live
from ondol.eventing.parents import require_current
from ondol.eventing.reporting import Reporter
from ondol.eventing.sources import containers, status
from ondol.sdk import Children, Controller, Manager, controller_key


class ContainerSourceReconciler:
    """The Deployment is made once its sink has an address: pods that cannot send are not started."""

    def __init__(self, manager: Manager, live: Live) -> None:
        self._clock = manager.clock
        self._client = manager.client
        self._live = live
        self._sources = manager.informer(eventing.CONTAINER_SOURCE)
        self._bindings = manager.informer(eventing.SINK_BINDING)
        self._deployments = manager.informer(resources.DEPLOYMENT)
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)
        self._status = Reporter(
            manager,
            eventing.CONTAINER_SOURCE,
            fields=status.FIELDS,
            conditions=containers.CONDITIONS,
        )

    def controller(self) -> Controller:
        controller = Controller("eventing-containersource", self.reconcile)
        parent = controller_key(eventing.CONTAINER_SOURCE.api_version, eventing.CONTAINER_SOURCE.kind)
        controller.watch(self._sources)
        controller.watch(self._bindings, parent)
        controller.watch(self._deployments, parent)
        self._live.watch_trust(controller, self._sources)
        return controller

    async def reconcile(self, key: Key) -> None:
        source = self._sources.lister.get(key)
        if source is None:
            self._children.forget(key)
            return
        if objects.is_deleting(source):
            return
        family = self._children.of(source)
        former = self._bindings.lister.get(Key(key.namespace, containers.binding_name(source)))
        await require_current(self._client, eventing.CONTAINER_SOURCE, source, former)
        binding: Object = await family.apply(eventing.SINK_BINDING, containers.sink_binding(source), former)
        live = self._deployments.lister.get(Key(key.namespace, containers.deployment_name(source)))
        sink = containers.sink(binding)
        if sink is not None:
            await require_current(self._client, eventing.CONTAINER_SOURCE, source, live)
            has_trust = bool(self._live.trusted)
            deployment = containers.deployment(source, sink, binding, has_trust=has_trust)
            live = await family.apply(resources.DEPLOYMENT, deployment, live)
        desired = containers.container_source_status(source, binding, live, now=self._clock.now())
        await self._status.write(source, desired)

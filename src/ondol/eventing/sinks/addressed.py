"""Reconciles sinks that are a path of one of the data plane's services: their address and their policies.

What becomes of events there is the data plane's to say.
"""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, Reporter
from ondol.eventing.sinks import jobs
from ondol.sdk import Controller, Manager

CONDITIONS: Final = (wellknown.ADDRESSABLE, wellknown.EVENT_POLICIES_READY)
SERVICES: Final = {
    eventing.JOB_SINK: eventing.JOB_SINK_SERVICE,
    eventing.INTEGRATION_SINK: eventing.INTEGRATION_SINK_SERVICE,
    eventing.KAFKA_SINK: eventing.KAFKA_SINK_SERVICE,
}


class AddressedSinkReconciler:
    """Writes nothing but statuses."""

    def __init__(
        self, manager: Manager, live: Live, policies: Policies, demand: Demand, resource: Resource
    ) -> None:
        self._clock = manager.clock
        self._live = live
        self._policies = policies
        self._demand = demand
        self._resource = resource
        self._sinks = manager.informer(resource)
        fields = (*ADDRESS_FIELDS, "job") if resource == eventing.JOB_SINK else ADDRESS_FIELDS
        self._status = Reporter(manager, resource, fields=fields, conditions=CONDITIONS)

    def controller(self) -> Controller:
        controller = Controller(f"eventing-{self._resource.kind.lower()}", self.reconcile)
        controller.watch(self._sinks)
        self._policies.watch(controller, self._resource, self._sinks)
        self._live.watch(controller, self._sinks)
        return controller

    async def reconcile(self, key: Key) -> None:
        sink = self._sinks.lister.get(key)
        if sink is None or objects.is_deleting(sink):
            return
        self._demand()
        about = self._policies.about(self._resource, sink)
        around = Surroundings(self._live.features, about, self._clock.now())
        await self._status.write(sink, sink_status(self._resource, sink, around))


def sink_status(resource: Resource, sink: Object, around: Surroundings) -> Object:
    """The status of such a sink."""
    own = {
        wellknown.ADDRESSABLE: verdicts.OK,
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
    }
    of_ready = (*CONDITIONS, *eventing.PLANE_CONDITIONS.get(resource, ()))
    urls = eventing.service_urls(SERVICES[resource], objects.namespace(sink), objects.name(sink))
    return {
        "observedGeneration": objects.generation(sink),
        **addressing.fields(*urls, resource, sink, around.features),
        **_own_fields(resource, sink),
        "policies": addressing.policy_references(around),
        "conditions": verdicts.with_ready(sink, own, of_ready=of_ready, now=around.now),
    }


def _own_fields(resource: Resource, sink: Object) -> Object:
    """What a kind's status has beside: of a JobSink how its Jobs are found."""
    return {"job": {"selector": jobs.selector(sink)}} if resource == eventing.JOB_SINK else {}

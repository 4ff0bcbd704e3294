"""Reconciles EventTransforms: a Service whose endpoints are the data plane's, the sink, and the status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.channels import documents
from ondol.eventing.channels.documents import Plane
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.destinations import NOWHERE, Address, Unresolved
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.identities import Identities, Identity
from ondol.eventing.parents import require_current
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, Reporter
from ondol.eventing.sources import status as sources
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Children, Controller, Manager, controller_key

Document: TypeAlias = Mapping[str, Any]

SINK_BINDING_READY: Final = "JsonataSinkBindingReady"
TRANSFORMATION_READY: Final = "TransformationReady"
CONDITIONS: Final = (
    wellknown.ADDRESSABLE,
    wellknown.EVENT_POLICIES_READY,
    TRANSFORMATION_READY,
    SINK_BINDING_READY,
)
_OF_READY: Final = (TRANSFORMATION_READY, wellknown.ADDRESSABLE, wellknown.EVENT_POLICIES_READY)
_LABELS: Final = {f"{eventing.EVENTING}/event-transform-jsonata": "true"}


class EventTransformReconciler:
    """The Service has the name that Knative gives it, so that its address is the same."""

    def __init__(
        self, manager: Manager, live: Live, policies: Policies, demand: Demand, plane: Plane
    ) -> None:
        self._clock = manager.clock
        self._client = manager.client
        self._live = live
        self._policies = policies
        self._demand = demand
        self._plane = plane
        self._transforms = manager.informer(eventing.EVENT_TRANSFORM)
        self._services = manager.informer(resources.SERVICE)
        self._slices = manager.informer(resources.ENDPOINT_SLICE)
        self._controller = Controller("eventing-eventtransform", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._identities = Identities(manager, eventing.EVENT_TRANSFORM)
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)
        self._status = Reporter(
            manager,
            eventing.EVENT_TRANSFORM,
            fields=(*ADDRESS_FIELDS, "sinkUri", "sinkCACerts", "sinkAudience", "auth"),
            conditions=CONDITIONS,
        )

    def controller(self) -> Controller:
        controller, kind = self._controller, eventing.EVENT_TRANSFORM
        controller.watch(self._transforms)
        controller.watch(self._services, controller_key(kind.api_version, kind.kind))
        controller.watch(self._slices, controller_key(kind.api_version, kind.kind))
        self._policies.watch(controller, kind, self._transforms)
        self._live.watch(controller, self._transforms)
        self._identities.watch(controller)
        return controller

    async def reconcile(self, key: Key) -> None:
        self._resolver.begin(key)
        transform = self._transforms.lister.get(key)
        if transform is None:
            self._children.forget(key)
            self._identities.forget(key)
            return
        if objects.is_deleting(transform):
            return
        self._demand()
        await self._serve(transform)
        sink = await self._sink(key, transform)
        identity = await self._identities.ensure(transform, self._live.features)
        about = self._policies.about(eventing.EVENT_TRANSFORM, transform)
        around = Surroundings(self._live.features, about, self._clock.now())
        await self._status.write(transform, transform_status(transform, sink, identity, around))

    async def _serve(self, transform: Object) -> None:
        name = eventing.transform_service(objects.name(transform))
        key = Key(objects.namespace(transform), name)
        family = self._children.of(transform)
        service = documents.service(name, key.namespace, self._plane, transform, _LABELS)
        slice_ = documents.endpoint_slice(name, key.namespace, self._plane, transform, _LABELS)
        live = self._services.lister.get(key), self._slices.lister.get(key)
        await require_current(self._client, eventing.EVENT_TRANSFORM, transform, *live)
        await family.apply(resources.SERVICE, service, live[0])
        await family.apply(resources.ENDPOINT_SLICE, slice_, live[1])

    async def _sink(self, key: Key, transform: Object) -> Address | Unresolved | None:
        sink = objects.spec(transform).get("sink")
        if not sink:
            return None
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        try:
            return await self._resolver.resolve(key, sink, group=group)
        except Unresolved as error:
            return error


def transform_status(
    transform: Document, sink: Address | Unresolved | None, identity: Identity, around: Surroundings
) -> Object:
    """The status of an EventTransform."""
    bound = sources.sink_verdict(sink, "NoAddressable") if sink is not None else verdicts.OK
    if not identity.verdict.is_true:
        bound = identity.verdict
    own = {
        SINK_BINDING_READY: bound,
        TRANSFORMATION_READY: _transformation(transform, bound),
        wellknown.ADDRESSABLE: verdicts.OK,
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
    }
    name, namespace = objects.name(transform), objects.namespace(transform)
    url = eventing.service_url(eventing.transform_service(name), namespace=namespace)
    _, encrypted = eventing.service_urls(eventing.TRANSFORM_SERVICE, namespace, name)
    address = addressing.fields(url, encrypted, eventing.EVENT_TRANSFORM, transform, around.features)
    return {
        "observedGeneration": objects.generation(transform),
        "address": address["address"],
        "addresses": address["addresses"] or [address["address"]],
        "policies": addressing.policy_references(around),
        **(sink if isinstance(sink, Address) else NOWHERE).as_status("sink"),
        "auth": sources.auth(identity),
        "conditions": verdicts.with_ready(transform, own, of_ready=_OF_READY, now=around.now),
    }


def _transformation(transform: Document, bound: Verdict) -> Verdict:
    """The condition TransformationReady: what the data plane says of the expression, then the sink."""
    condition = conditions.get(transform, eventing.JSONATA_DEPLOYMENT_READY)
    if condition is None:
        return verdicts.UNKNOWN
    status = condition.get("status")
    if status == conditions.TRUE:
        return bound
    judge = verdicts.failed if status == conditions.FALSE else verdicts.unknown
    return judge(str(condition.get("reason") or ""), str(condition.get("message") or ""))

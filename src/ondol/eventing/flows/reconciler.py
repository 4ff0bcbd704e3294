"""Reconciles Sequences and Parallels: keeps the channels and subscriptions they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import Unresolved, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.flows import documents, status
from ondol.eventing.flows.documents import Document, Flow
from ondol.eventing.flows.status import Parts
from ondol.eventing.parents import require_current
from ondol.eventing.policies.derived import DerivedPolicies, owner_uid
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, Reporter
from ondol.sdk import Children, Controller, Manager, Result, children, controller_key

_BY_OWNER: Final = "owner"
_REFUSALS: Final = (
    Unresolved,
    children.NotOwned,
    errors.Invalid,
    errors.BadRequest,
    errors.Forbidden,
)


@dataclass(frozen=True, slots=True)
class FlowKind:
    """What the two kinds differ in: their plan, and what they report."""

    resource: Resource
    plan: Callable[[Document], Flow]
    report: Callable[[Document, Parts, Surroundings], Object]
    policies: Callable[[Document, Flow, Iterable[Document]], list[Object]]
    fields: tuple[str, ...]
    """Of the status, those of this kind alone."""


SEQUENCES: Final = FlowKind(
    eventing.SEQUENCE,
    documents.sequence,
    status.sequence_status,
    documents.sequence_policies,
    ("channelStatuses", "subscriptionStatuses"),
)
PARALLELS: Final = FlowKind(
    eventing.PARALLEL,
    documents.parallel,
    status.parallel_status,
    documents.parallel_policies,
    ("ingressChannelStatus", "branchStatuses"),
)


class FlowReconciler:
    """One for each of the two kinds."""

    def __init__(self, manager: Manager, live: Live, policies: Policies, kind: FlowKind) -> None:
        self._manager = manager
        self._live = live
        self._policies = policies
        self._kind = kind
        self._resource = resource = kind.resource
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)
        self._derived = DerivedPolicies(manager, resource)
        self._flows = manager.informer(resource)
        self._subscriptions = manager.informer(eventing.SUBSCRIPTION)
        self._subscriptions.add_index(_BY_OWNER, owner_uid)
        self._controller = Controller(f"eventing-{resource.kind.lower()}", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._status = Reporter(
            manager,
            resource,
            fields=("auth", *ADDRESS_FIELDS, *kind.fields),
            conditions=status.CONDITIONS,
        )

    def controller(self) -> Controller:
        controller, resource = self._controller, self._resource
        controller.watch(self._flows)
        controller.watch(self._subscriptions, controller_key(resource.api_version, resource.kind))
        self._policies.watch(controller, resource, self._flows)
        self._derived.watch(controller)
        self._live.watch(controller, self._flows)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        self._resolver.begin(key)
        flow = self._flows.lister.get(key)
        if flow is None:
            self._children.forget(key)
            self._derived.forget(key)
            return None
        if objects.is_deleting(flow):
            return None
        parts = await self._make(key, flow)
        around = Surroundings(
            self._live.features,
            self._policies.about(self._resource, flow),
            self._manager.clock.now(),
        )
        await self._status.write(flow, self._kind.report(flow, parts, around))
        if not parts.problem:
            plan = self._kind.plan(flow)
            policies = self._kind.policies(flow, plan, around.policies) if around.features.oidc else []
            await self._derived.keep(flow, policies)
        return Result(wellknown.RETRY_S) if parts.problem else None

    async def _make(self, key: Key, flow: Object) -> Parts:
        plan, family, parts = self._kind.plan(flow), self._children.of(flow), Parts()
        resource = None
        for number, desired in enumerate(plan.channels):
            try:
                resource, channel = await self._channel(key, flow, family, desired)
            except _REFUSALS as error:
                why = f"failed to reconcile channel {objects.name(desired)} at step {number}: {error}"
                parts.problem = {status.CHANNELS_READY: verdicts.failed("ChannelsNotReady", why)}
                return parts
            parts.channels.append(channel)
        for number, desired in enumerate(plan.subscriptions):
            try:
                subscription = await self._subscription(flow, family, desired)
            except _REFUSALS as error:
                why = f"failed to reconcile subscription resource for step: {number} : {error}"
                parts.problem = {status.SUBSCRIPTIONS_READY: verdicts.failed("SubscriptionsNotReady", why)}
                return parts
            if subscription is not None:
                parts.subscriptions.append(subscription)
        own = self._subscriptions.lister.by_index(_BY_OWNER, objects.uid(flow))
        await family.prune(eventing.SUBSCRIPTION, own)
        if resource is not None:
            await self._prune_channels(key, family, resource, flow)
        return parts

    async def _channel(
        self, key: Key, flow: Object, family: children.Family, desired: Object
    ) -> tuple[Resource, Object]:
        ref = reference({**desired, "name": objects.name(desired)}, key.namespace)
        resource = await self._resolver.resource(key, ref)
        try:
            live = await self._resolver.find(key, ref)
        except Unresolved:
            live = None
        await require_current(self._manager.client, self._resource, flow, live)
        return resource, await family.apply(resource, desired, live)

    async def _subscription(self, flow: Object, family: children.Family, desired: Object) -> Object | None:
        """The subscription as it should be; None while one of another channel makes room for it."""
        live = self._subscriptions.lister.get(objects.key(desired))
        if live is not None and documents.is_of_other_channel(live, desired):
            family.keep(eventing.SUBSCRIPTION, objects.key(desired))
            if not objects.is_deleting(live):
                await children.delete(self._manager.client, eventing.SUBSCRIPTION, live)
            return None
        await require_current(self._manager.client, self._resource, flow, live)
        return await family.apply(eventing.SUBSCRIPTION, desired, live)

    async def _prune_channels(
        self, key: Key, family: children.Family, resource: Resource, flow: Object
    ) -> None:
        """Channels of steps that are no more, also those of a kind that the template named before."""
        informer = self._manager.informer(resource, optional=True)
        await family.prune(resource, informer.lister.list(key.namespace))
        for ref in channels_of(objects.status(flow)):
            other = reference(ref, key.namespace)
            if (other.api_version, other.kind) == (resource.api_version, resource.kind):
                continue
            try:
                former = await self._resolver.resource(key, other)
                await family.prune(former, [await self._resolver.find(key, other)])
            except Unresolved:
                continue


def channels_of(flow_status: Document) -> list[Document]:
    """The channels that a flow's status names."""
    listed = list(flow_status.get("channelStatuses") or ())
    listed += [flow_status.get("ingressChannelStatus") or {}]
    listed += [b.get("filterChannelStatus") or {} for b in flow_status.get("branchStatuses") or ()]
    return [part["channel"] for part in listed if part.get("channel")]

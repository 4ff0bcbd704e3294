"""Reconciles Subscriptions: resolves where events go, and enters it in the channel's `spec.subscribers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.channels import status, subscribers
from ondol.eventing.channels.status import Document, Physical, SubscriptionView
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import NOWHERE, Address, Reference, Unresolved, is_empty, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.identities import Identities, Identity
from ondol.eventing.reporting import Reporter
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Controller, Manager, finalizers

_CHANNEL_FAILED: Final = "ChannelReferenceFailed"
_SYNC_FAILED: Final = "PhysicalChannelSyncFailed"
_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class Channelable:
    """The channel that takes a Subscription's entry, and where its kind is served."""

    resource: Resource
    document: Object


class _NotResolved(errors.OndolError):
    """One of the places a Subscription names has no address."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.verdict = verdicts.failed(reason, message)


class SubscriptionReconciler:
    """Works with channels of any kind that have `spec.subscribers`."""

    def __init__(self, manager: Manager, live: Live) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._live = live
        self._subscriptions = manager.informer(eventing.SUBSCRIPTION)
        self._controller = Controller("eventing-subscription", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._identities = Identities(manager, eventing.SUBSCRIPTION)
        self._status = Reporter(
            manager,
            eventing.SUBSCRIPTION,
            fields=("physicalSubscription", "auth"),
            conditions=status.SUBSCRIPTION_CONDITIONS,
        )

    def controller(self) -> Controller:
        self._controller.watch(self._subscriptions)
        self._live.watch(self._controller, self._subscriptions)
        self._identities.watch(self._controller)
        return self._controller

    async def reconcile(self, key: Key) -> None:
        self._resolver.begin(key)
        subscription = self._subscriptions.lister.get(key)
        if subscription is None:
            self._identities.forget(key)
            return
        if objects.is_deleting(subscription):
            await self._leave(key, subscription)
            return
        subscription = await finalizers.add(
            self._client, eventing.SUBSCRIPTION, subscription, wellknown.SUBSCRIPTION_FINALIZER
        )
        view = await self._view(key, subscription)
        await self._status.write(
            subscription, status.subscription_status(subscription, view, now=self._clock.now())
        )

    async def _leave(self, key: Key, subscription: Object) -> None:
        """Take the entry out of the channel, then let the Subscription go."""
        if wellknown.SUBSCRIPTION_FINALIZER not in objects.finalizers(subscription):
            return
        channel = await self._channel_behind(key, subscription)
        if channel is not None:
            await self._enter(channel, objects.uid(subscription), None)
        await finalizers.remove(
            self._client, eventing.SUBSCRIPTION, subscription, wellknown.SUBSCRIPTION_FINALIZER
        )

    async def _channel_behind(self, key: Key, subscription: Object) -> Channelable | None:
        """The channel that may have the Subscription's entry, ready or not."""
        try:
            return await self._channel(key, subscription, must_be_ready=False)
        except Unresolved:
            return None

    async def _view(self, key: Key, subscription: Object) -> SubscriptionView:
        identity = await self._identities.ensure(subscription, self._live.features)
        try:
            channel = await self._channel(key, subscription)
        except Unresolved as error:
            message = f"Failed to get Spec.Channel or backing channel: {error}"
            return _stopped(verdicts.unknown(_CHANNEL_FAILED, message), identity)
        try:
            physical = await self._physical(key, subscription, channel.document)
        except _NotResolved as error:
            return _stopped(error.verdict, identity, Physical())
        entry = subscribers.entry(subscription, channel.document, physical, identity.service_account)
        try:
            written = await self._enter(channel, entry["uid"], entry)
        except (errors.Invalid, errors.BadRequest, errors.Forbidden, errors.NotFound) as error:
            message = f"Failed to sync physical Channel: {error.message}"
            return SubscriptionView(
                verdicts.OK,
                physical,
                verdicts.failed(_SYNC_FAILED, message),
                identity=identity.verdict,
                service_account=identity.service_account,
            )
        return SubscriptionView(
            verdicts.OK,
            physical,
            verdicts.OK,
            status.channel_verdict(subscription, written),
            identity.verdict,
            identity.service_account,
        )

    async def _channel(self, key: Key, subscription: Object, *, must_be_ready: bool = True) -> Channelable:
        """The channel with the subscribers: the one named, or that which a Channel stands for."""
        ref = _own_reference(objects.spec(subscription).get("channel") or {}, key)
        named = await self._find(key, ref)
        if (named.resource.group, named.resource.kind) != (eventing.MESSAGING, eventing.CHANNEL.kind):
            return named
        backing = objects.status(named.document).get("channel")
        ready = verdicts.is_ready(named.document) or not must_be_ready
        if not backing or not ready:
            raise Unresolved("channel is not ready.")
        return await self._find(key, _own_reference(backing, key))

    async def _find(self, key: Key, ref: Reference) -> Channelable:
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        resource = await self._resolver.resource(key, ref, group=group)
        return Channelable(resource, await self._resolver.find(key, ref, group=group))

    async def _physical(self, key: Key, subscription: Object, channel: Document) -> Physical:
        """Every address a Subscription leads to; `_NotResolved` says which of them is none."""
        spec = objects.spec(subscription)
        return Physical(
            await self._address(key, spec.get("subscriber"), "spec.subscriber", "SubscriberResolveFailed"),
            await self._address(key, spec.get("reply"), "spec.reply", "ReplyResolveFailed"),
            await self._dead_letter(key, subscription, channel),
        )

    async def _address(self, key: Key, destination: Document | None, path: str, reason: str) -> Address:
        if destination is None or is_empty(destination):
            return NOWHERE
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        try:
            return await self._resolver.resolve(key, destination, group=group)
        except Unresolved as error:
            raise _NotResolved(reason, f"Failed to resolve {path}: {error}") from error

    async def _dead_letter(self, key: Key, subscription: Object, channel: Document) -> Address:
        """The Subscription's own dead letter sink, else its channel's."""
        reason = "DeadLetterSinkResolveFailed"
        sink = addressing.dead_letter_sink(subscription)
        if sink is not None:
            return await self._address(key, sink, "spec.delivery.deadLetterSink", reason)
        if addressing.dead_letter_sink(channel) is None:
            return NOWHERE
        address = addressing.dead_letter_address(objects.status(channel))
        if address is None:
            message = f"channel {objects.name(channel)} didn't set status.deadLetterSinkURI"
            raise _NotResolved(reason, message)
        return address

    async def _enter(self, channel: Channelable, uid: str, entry: Object | None) -> Object:
        """Put an entry in the channel's list, or take it out; the channel as it is then.

        The list is one field to the server, so it is written onto exactly the version it was made from.
        """
        document = channel.document
        for attempt in range(_TRIES):
            listed = subscribers.of(document)
            desired = (
                subscribers.without(listed, uid) if entry is None else subscribers.with_entry(listed, entry)
            )
            if desired == [dict(each) for each in listed]:
                return document
            try:
                return await self._write(channel.resource, document, desired)
            except errors.Conflict:
                if attempt + 1 == _TRIES:
                    raise
                document = await self._client.get(
                    channel.resource, objects.name(document), objects.namespace(document)
                )
        raise AssertionError("unreachable")

    async def _write(self, resource: Resource, channel: Object, desired: list[Object]) -> Object:
        metadata = {"uid": objects.uid(channel), "resourceVersion": objects.resource_version(channel)}
        return await self._client.patch(
            resource,
            objects.name(channel),
            objects.namespace(channel),
            patch={"metadata": metadata, "spec": {"subscribers": desired}},
        )


def _stopped(references: Verdict, identity: Identity, physical: Physical | None = None) -> SubscriptionView:
    """A Subscription that got no further than its references."""
    return SubscriptionView(
        references, physical, identity=identity.verdict, service_account=identity.service_account
    )


def _own_reference(ref: Document, key: Key) -> Reference:
    """A channel is always one of the Subscription's own namespace."""
    return reference({**ref, "namespace": key.namespace}, key.namespace)

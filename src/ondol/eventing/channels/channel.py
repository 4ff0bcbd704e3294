"""Reconciles Channels: each stands for a channel of the kind its template names."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.channels import documents, status
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import Unresolved, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.parents import require_current
from ondol.eventing.policies.derived import DerivedPolicies, of_channel
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, DEAD_LETTER_FIELDS, Reporter
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Children, Controller, Manager, Result, children


class ChannelReconciler:
    """Makes the channel behind it, and repeats what that one's status says."""

    def __init__(self, manager: Manager, live: Live, policies: Policies) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._live = live
        self._policies = policies
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)
        self._derived = DerivedPolicies(manager, eventing.CHANNEL)
        self._channels = manager.informer(eventing.CHANNEL)
        self._controller = Controller("eventing-channel", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._status = Reporter(
            manager,
            eventing.CHANNEL,
            fields=("channel", "subscribers", *ADDRESS_FIELDS, *DEAD_LETTER_FIELDS),
            conditions=status.CHANNEL_CONDITIONS,
        )

    def controller(self) -> Controller:
        controller = self._controller
        controller.watch(self._channels)
        self._policies.watch(controller, eventing.CHANNEL, self._channels)
        self._derived.watch(controller)
        self._live.watch(controller, self._channels)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        self._resolver.begin(key)
        channel = self._channels.lister.get(key)
        if channel is None:
            self._children.forget(key)
            self._derived.forget(key)
            return None
        if objects.is_deleting(channel):
            return None
        backing, problem = await self._backing(key, channel)
        around = Surroundings(
            self._live.features, self._policies.about(eventing.CHANNEL, channel), self._clock.now()
        )
        await self._status.write(channel, status.channel_status(channel, backing, problem, around))
        if backing is not None:
            policies = around.policies if around.features.oidc else ()
            await self._derived.keep(channel, of_channel(channel, backing, policies))
        return Result(wellknown.RETRY_S) if problem is not None else None

    async def _backing(self, key: Key, channel: Object) -> tuple[Object | None, Verdict | None]:
        """The channel behind this one as it is now, or why there is none."""
        ref = reference(status.backing_reference(channel), key.namespace)
        try:
            resource = await self._resolver.resource(key, ref)
            try:
                live = await self._resolver.find(key, ref)
            except Unresolved:
                live = None
            await require_current(self._client, eventing.CHANNEL, channel, live)
            family = self._children.of(channel)
            return await family.apply(resource, documents.backing(channel), live), None
        except Unresolved as error:
            return None, verdicts.failed("ChannelFailure", str(error))
        except children.NotOwned as error:
            return None, verdicts.failed("ChannelFailure", error.message)
        except (errors.Invalid, errors.BadRequest, errors.Forbidden) as error:
            return None, verdicts.failed("ChannelFailure", error.message)

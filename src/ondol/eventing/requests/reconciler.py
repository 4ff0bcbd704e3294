"""Reconciles RequestReplies: their address, and whether their broker is ready.

The data plane takes replies from the broker itself, so none of Knative's Triggers are made; TriggersReady is
its word that it does.
"""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, Reporter
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Controller, Manager

BROKER_READY: Final = "BrokerReady"
BROKER_ADDRESS: Final = "knative.dev/brokerAddress"
"""Annotation of the status: where requests are sent on to."""
_CONDITIONS: Final = (wellknown.ADDRESSABLE, wellknown.EVENT_POLICIES_READY, BROKER_READY)
_BY_BROKER: Final = "broker"


class RequestReplyReconciler:
    """Writes nothing but the status."""

    def __init__(self, manager: Manager, live: Live, policies: Policies, demand: Demand) -> None:
        self._clock = manager.clock
        self._live = live
        self._policies = policies
        self._demand = demand
        self._replies = manager.informer(eventing.REQUEST_REPLY)
        self._brokers = manager.informer(eventing.BROKER)
        self._replies.add_index(_BY_BROKER, lambda obj: [str(named_broker(obj))])
        self._status = Reporter(
            manager,
            eventing.REQUEST_REPLY,
            fields=("annotations", "desiredReplicas", "readyReplicas", *ADDRESS_FIELDS),
            conditions=_CONDITIONS,
        )

    def controller(self) -> Controller:
        controller = Controller("eventing-request-reply", self.reconcile)
        controller.watch(self._replies)
        controller.watch(self._brokers, self._of_broker)
        self._policies.watch(controller, eventing.REQUEST_REPLY, self._replies)
        self._live.watch(controller, self._replies)
        return controller

    def _of_broker(self, broker: Object) -> list[Key]:
        index = str(objects.key(broker))
        return [objects.key(obj) for obj in self._replies.lister.by_index(_BY_BROKER, index)]

    async def reconcile(self, key: Key) -> None:
        reply = self._replies.lister.get(key)
        if reply is None or objects.is_deleting(reply):
            return
        self._demand()
        broker = self._brokers.lister.get(named_broker(reply))
        around = Surroundings(
            self._live.features,
            self._policies.about(eventing.REQUEST_REPLY, reply),
            self._clock.now(),
        )
        await self._status.write(reply, request_reply_status(reply, broker, around))


def named_broker(reply: Object) -> Key:
    """The broker that a RequestReply names, which is one of its own namespace."""
    ref = objects.spec(reply).get("brokerRef") or {}
    return Key(objects.namespace(reply), str(ref.get("name") or ""))


def request_reply_status(reply: Object, broker: Object | None, around: Surroundings) -> Object:
    """The status of a RequestReply."""
    own = {
        wellknown.ADDRESSABLE: verdicts.OK,
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
        BROKER_READY: broker_verdict(reply, broker),
    }
    urls = eventing.service_urls(
        eventing.REQUEST_REPLY_SERVICE, objects.namespace(reply), objects.name(reply)
    )
    triggers = eventing.PLANE_CONDITIONS[eventing.REQUEST_REPLY]
    address = (objects.status(broker or {}).get("address") or {}).get("url")
    conditions = verdicts.with_ready(reply, own, of_ready=(*own, *triggers), now=around.now)
    ready = all(c["status"] == "True" for c in conditions if c["type"] in triggers) and any(
        c["type"] in triggers for c in conditions
    )
    return {
        "observedGeneration": objects.generation(reply),
        **addressing.fields(*urls, eventing.REQUEST_REPLY, reply, around.features),
        "policies": addressing.policy_references(around),
        "annotations": {BROKER_ADDRESS: address} if address else None,
        "desiredReplicas": 1,
        "readyReplicas": int(ready),
        "conditions": conditions,
    }


def broker_verdict(reply: Object, broker: Object | None) -> Verdict:
    """The condition BrokerReady."""
    if broker is None:
        name = named_broker(reply).name
        resource = eventing.BROKER.group_resource
        return verdicts.unknown("NotFound", f'could not get broker: {resource} "{name}" not found')
    if not verdicts.is_ready(broker):
        return verdicts.failed("NotReady", "broker is not ready")
    return verdicts.OK

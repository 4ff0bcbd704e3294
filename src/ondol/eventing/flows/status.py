"""The statuses of Sequences and Parallels, from the parts they are made of. Pure.

Conditions, reasons and messages: knative/eventing pkg/apis/flows/v1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.verdicts import Verdict

Document: TypeAlias = Mapping[str, Any]

CHANNELS_READY: Final = "ChannelsReady"
SUBSCRIPTIONS_READY: Final = "SubscriptionsReady"
CONDITIONS: Final = (
    CHANNELS_READY,
    SUBSCRIPTIONS_READY,
    wellknown.ADDRESSABLE,
    wellknown.EVENT_POLICIES_READY,
)


@dataclass(slots=True)
class Parts:
    """What a flow is made of, as it is now."""

    channels: list[Object] = field(default_factory=list)
    subscriptions: list[Object] = field(default_factory=list)
    problem: Mapping[str, Verdict] = field(default_factory=dict)
    """The conditions of what could not be made."""


Unready: TypeAlias = Callable[[str, str], Verdict]


def sequence_status(flow: Document, parts: Parts, around: Surroundings) -> Object:
    """The status of a Sequence."""
    return {
        **_common(flow, parts, around, verdicts.unknown),
        "channelStatuses": [_part("channel", c, "Channel") for c in parts.channels],
        "subscriptionStatuses": [_part("subscription", s, "Subscription") for s in parts.subscriptions],
    }


def parallel_status(flow: Document, parts: Parts, around: Surroundings) -> Object:
    """The status of a Parallel: its own channel is the first, its filters' subscriptions the first half."""
    status = _common(flow, parts, around, verdicts.failed)
    branches = len(objects.spec(flow).get("branches") or ())
    if (len(parts.channels), len(parts.subscriptions)) != (branches + 1, 2 * branches):
        return status
    filters, own = parts.subscriptions[:branches], parts.subscriptions[branches:]
    return {
        **status,
        "ingressChannelStatus": _part("channel", parts.channels[0], "Channel"),
        "branchStatuses": [
            {
                "filterSubscriptionStatus": _part("subscription", filter_, "Subscription"),
                "filterChannelStatus": _part("channel", channel, "Channel"),
                "subscriberSubscriptionStatus": _part("subscription", subscription, "Subscription"),
            }
            for filter_, channel, subscription in zip(filters, parts.channels[1:], own, strict=True)
        ],
    }


def _common(flow: Document, parts: Parts, around: Surroundings, unready: Unready) -> Object:
    first = objects.status(parts.channels[0]) if parts.channels else {}
    address = first.get("address")
    own = {
        CHANNELS_READY: verdicts.OK
        if _all_ready(parts.channels)
        else unready("ChannelsNotReady", "Channels are not ready yet, or there are none"),
        SUBSCRIPTIONS_READY: verdicts.OK
        if _all_ready(parts.subscriptions)
        else unready("SubscriptionsNotReady", "Subscriptions are not ready yet, or there are none"),
        wellknown.ADDRESSABLE: verdicts.OK
        if (address or {}).get("url")
        else unready("emptyAddress", "addressable is nil"),
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
        **parts.problem,
    }
    names = _service_accounts(parts.subscriptions)
    return {
        "observedGeneration": objects.generation(flow),
        "address": dict(address) if address else None,
        "addresses": [dict(each) for each in first.get("addresses") or ()] or None,
        "policies": addressing.policy_references(around),
        "auth": {"serviceAccountNames": names} if names else None,
        "conditions": verdicts.with_ready(flow, own, of_ready=CONDITIONS, now=around.now),
    }


def _all_ready(parts: Iterable[Document]) -> bool:
    listed = list(parts)
    return bool(listed) and all(conditions.is_true(part, eventing.READY) for part in listed)


def _service_accounts(subscriptions: Iterable[Document]) -> list[str]:
    names = [(objects.status(s).get("auth") or {}).get("serviceAccountName") for s in subscriptions]
    return [str(name) for name in names if name]


def _part(field: str, part: Document, kind: str) -> Object:
    """Which object a part is, and its condition Ready."""
    ready = conditions.get(part, eventing.READY)
    return {
        field: {
            "apiVersion": part["apiVersion"],
            "kind": part["kind"],
            "name": objects.name(part),
            "namespace": objects.namespace(part),
        },
        "ready": dict(ready) if ready is not None else _no_ready(kind),
    }


def _no_ready(kind: str) -> Object:
    message = f"{kind} does not have Ready condition"
    return {"type": eventing.READY, "status": "Unknown", "reason": "NoReady", "message": message}

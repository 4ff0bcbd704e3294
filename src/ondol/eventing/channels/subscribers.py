"""The entries of `spec.subscribers` of a channel: one for each Subscription. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.eventing.channels.status import Physical
from ondol.eventing.destinations import Address

Document: TypeAlias = Mapping[str, Any]

_DELIVERY: Final = ("retry", "backoffPolicy", "backoffDelay", "timeout", "retryAfterMax", "format")


def entry(subscription: Document, channel: Document, physical: Physical, service_account: str) -> Object:
    """What a channel must know of a Subscription."""
    fields = {
        "uid": objects.uid(subscription),
        "name": objects.name(subscription),
        "generation": objects.generation(subscription),
        **physical.subscriber.as_status("subscriber"),
        **physical.reply.as_status("reply"),
        "delivery": delivery(subscription, channel, physical.dead_letter),
        "auth": {"serviceAccountName": service_account} if service_account else None,
    }
    return {field: value for field, value in fields.items() if value}


def delivery(subscription: Document, channel: Document, dead_letter: Address) -> Object | None:
    """How events are delivered: as the Subscription says, or if it says nothing as its channel does."""
    spec = objects.spec(subscription).get("delivery")
    if spec is None:
        spec = objects.spec(channel).get("delivery") or {}
    settings: Object = {field: spec[field] for field in _DELIVERY if spec.get(field) is not None}
    if dead_letter.url:
        sink = {"uri": dead_letter.url, "CACerts": dead_letter.ca_certs, "audience": dead_letter.audience}
        settings["deadLetterSink"] = {field: value for field, value in sink.items() if value}
    return settings or None


def with_entry(listed: Sequence[Document], new: Document) -> list[Object]:
    """The list with the entry, in the place of what its Subscription had before."""
    replaced = [dict(new) if each.get("uid") == new["uid"] else dict(each) for each in listed]
    is_there = any(each.get("uid") == new["uid"] for each in listed)
    return replaced if is_there else [*replaced, dict(new)]


def without(listed: Sequence[Document], uid: str) -> list[Object]:
    """The list without the Subscription's entry."""
    return [dict(each) for each in listed if each.get("uid") != uid]


def of(channel: Document) -> Sequence[Document]:
    subscribers: Sequence[Document] = objects.spec(channel).get("subscribers") or ()
    return subscribers

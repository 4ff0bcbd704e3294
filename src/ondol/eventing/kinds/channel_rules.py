"""Defaults and refusals of Channels, InMemoryChannels and Subscriptions (pkg/apis/messaging/v1)."""

from __future__ import annotations

from collections.abc import Iterator

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import destinations, wellknown
from ondol.eventing.kinds import checks
from ondol.eventing.kinds.broker_rules import fill_delivery, fill_namespace, orders
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Document, Rules, Write


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.CHANNEL.group_resource: Rules(configuration, channel, fill_channel, advise_scope),
        eventing.IN_MEMORY_CHANNEL.group_resource: Rules(
            configuration, in_memory_channel, fill_in_memory_channel, advise_scope
        ),
        eventing.SUBSCRIPTION.group_resource: Rules(configuration, subscription, fill_subscription),
    }


def fill_channel(new: Object, configuration: Configuration) -> None:
    """The kind of channel it stands for, where it names none."""
    _mark(new)
    fill_template(new, configuration)
    fill_delivery(new["spec"], objects.namespace(new))


def fill_template(new: Object, configuration: Configuration) -> None:
    """The default template of the namespace, in `spec.channelTemplate`."""
    spec = new.setdefault("spec", {})
    if spec.get("channelTemplate") is None:
        template = configuration.channel_template(objects.namespace(new))
        if template is not None:
            spec["channelTemplate"] = template


def fill_in_memory_channel(new: Object, _configuration: Configuration) -> None:
    _mark(new)
    fill_delivery(new.setdefault("spec", {}), objects.namespace(new))


def _mark(new: Object) -> None:
    """The version of the shape of its subscribers."""
    annotations = objects.annotations(new)
    if wellknown.SUBSCRIBABLE not in annotations:
        marked = {**annotations, wellknown.SUBSCRIBABLE: wellknown.SUBSCRIBABLE_VERSION}
        new["metadata"]["annotations"] = marked


def fill_subscription(new: Object, _configuration: Configuration) -> None:
    namespace, spec = objects.namespace(new), new.setdefault("spec", {})
    for field in ("subscriber", "reply"):
        fill_namespace(spec.get(field), namespace)
    fill_delivery(spec, namespace)


def channel(write: Write) -> Causes:
    spec = write.spec
    yield from checks.channel_template(spec.get("channelTemplate"), "spec.channelTemplate")
    if spec.get("subscribers"):
        yield checks.disallowed("spec.subscribable.subscribers")
    yield from checks.delivery(spec.get("delivery"), "spec.delivery", write.namespace, write.features)
    if write.old is not None:
        before, after = _but_subscribers(write.old), _but_subscribers(write.new)
        for field in sorted(before.keys() | after.keys()):
            yield from checks.immutable(f"spec.{field}", before.get(field), after.get(field))


def _but_subscribers(obj: Document) -> dict[str, object]:
    return {field: value for field, value in objects.spec(obj).items() if field != "subscribers"}


def in_memory_channel(write: Write) -> Causes:
    for number, entry in enumerate(write.spec.get("subscribers") or ()):
        if not entry.get("replyUri") and not entry.get("subscriberUri"):
            path = f"spec.subscribable.subscriber[{number}]"
            for field in ("replyURI", "subscriberURI"):
                yield checks.missing(f"{path}.{field}", "expected at least one of, got none")
    yield from checks.delivery(write.spec.get("delivery"), "spec.delivery", write.namespace, write.features)
    yield from _subscribers_kept(write)
    scope = objects.annotations(write.new).get(wellknown.SCOPE)
    if scope not in (None, "cluster", "namespace"):
        path = f"metadata.annotations[{wellknown.SCOPE}]"
        yield checks.invalid(path, scope, "expected either 'cluster' or 'namespace'")


def _subscribers_kept(write: Write) -> Causes:
    """Who subscribes is for Subscriptions to say: their controller alone changes the list."""
    controller = write.configuration.controller
    if write.old is None or not controller or write.user == controller:
        return
    if (objects.spec(write.old).get("subscribers") or []) != (write.spec.get("subscribers") or []):
        text = f"Channel.Spec.Subscribers changed by user {write.user} which was not {controller}"
        yield checks.generic("spec.subscribers", f"{text}: create a Subscription")


def advise_scope(write: Write) -> Iterator[str]:
    if objects.annotations(write.new).get(wellknown.SCOPE) == "namespace":
        key = f"metadata.annotations[{wellknown.SCOPE}]"
        yield f"{key} has no effect: one process serves the channels of all namespaces"


def subscription(write: Write) -> Causes:
    spec, namespace, flags = write.spec, write.namespace, write.features
    ref = spec.get("channel")
    if not ref or not any(ref.values()):
        yield checks.missing("spec.channel", "the Subscription must reference a channel")
        return
    yield from checks.reference(ref, "spec.channel", namespace, flags)
    if ref.get("namespace"):
        details = (
            "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks "
            "is disabled"
        )
        yield checks.disallowed("spec.channel.namespace", details)
    if destinations.is_empty(spec.get("subscriber")):
        yield checks.missing("spec.subscriber", "the Subscription must reference a subscriber")
    else:
        yield from checks.destination(spec.get("subscriber"), "spec.subscriber", namespace, flags)
    if not destinations.is_empty(spec.get("reply")):
        yield from checks.destination(spec.get("reply"), "spec.reply", namespace, flags)
    yield from checks.delivery(spec.get("delivery"), "spec.delivery", namespace, flags)
    yield from orders(objects.annotations(write.new))
    if write.old is not None:
        yield from checks.immutable("spec.channel", objects.spec(write.old).get("channel"), ref)

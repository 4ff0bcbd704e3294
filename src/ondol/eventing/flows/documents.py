"""What Sequences and Parallels are made of: channels and subscriptions, by Knative's names. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import names
from ondol.contracts import eventing
from ondol.eventing.channels import documents as channels
from ondol.eventing.policies import derived

Document: TypeAlias = Mapping[str, Any]

_DESTINATION = ("ref", "uri", "CACerts", "audience")


@dataclass(frozen=True, slots=True)
class Flow:
    """The parts of a flow in order; the first channel is where it takes events in."""

    channels: tuple[Object, ...]
    subscriptions: tuple[Object, ...]


def sequence(flow: Document) -> Flow:
    """A channel before each step, and a subscription that takes its events to the step and on."""
    steps = objects.spec(flow).get("steps") or ()
    numbers = range(len(steps))
    return Flow(
        tuple(_channel(flow, sequence_name(flow, n)) for n in numbers),
        tuple(_step(flow, n, n + 1 == len(steps)) for n in numbers),
    )


def sequence_name(flow: Document, number: int) -> str:
    return f"{objects.name(flow)}-kn-sequence-{number}"


def _step(flow: Document, number: int, is_last: bool) -> Object:
    spec = objects.spec(flow)
    step = spec["steps"][number]
    reply = spec.get("reply") if is_last else _to_channel(flow, sequence_name(flow, number + 1))
    name = sequence_name(flow, number)
    return _subscription(flow, name, name, step, reply=reply, delivery=step.get("delivery"))


def parallel(flow: Document) -> Flow:
    """A channel for all, and for each branch one of its own behind its filter."""
    branches = objects.spec(flow).get("branches") or ()
    numbers = range(len(branches))
    ingress = parallel_name(flow)
    return Flow(
        (_channel(flow, ingress), *(_channel(flow, branch_name(flow, n)) for n in numbers)),
        (*(_filter(flow, n) for n in numbers), *(_branch(flow, n) for n in numbers)),
    )


def parallel_name(flow: Document) -> str:
    return f"{objects.name(flow)}-kn-parallel"


def branch_name(flow: Document, number: int) -> str:
    return f"{objects.name(flow)}-kn-parallel-{number}"


def filter_name(flow: Document, number: int) -> str:
    return f"{objects.name(flow)}-kn-parallel-filter-{number}"


def _filter(flow: Document, number: int) -> Object:
    """What a branch's filter answers goes into its channel; without a filter everything does."""
    branch = objects.spec(flow)["branches"][number]
    own = _to_channel(flow, branch_name(flow, number))
    chosen = branch.get("filter")
    name = filter_name(flow, number)
    ingress = parallel_name(flow)
    return _subscription(flow, name, ingress, chosen or own, reply=own if chosen else None)


def _branch(flow: Document, number: int) -> Object:
    spec = objects.spec(flow)
    branch, name = spec["branches"][number], branch_name(flow, number)
    reply = branch.get("reply") or spec.get("reply")
    subscriber = branch.get("subscriber") or {}
    return _subscription(flow, name, name, subscriber, reply=reply, delivery=branch.get("delivery"))


def _channel(flow: Document, name: str) -> Object:
    return channels.of_template(objects.spec(flow).get("channelTemplate") or {}, name, flow)


def _reference(flow: Document, name: str) -> Object:
    template = objects.spec(flow).get("channelTemplate") or {}
    return {"apiVersion": template.get("apiVersion"), "kind": template.get("kind"), "name": name}


def _to_channel(flow: Document, name: str) -> Object:
    return {"ref": {**_reference(flow, name), "namespace": objects.namespace(flow)}}


def _subscription(
    flow: Document,
    name: str,
    channel: str,
    subscriber: Document,
    *,
    reply: Document | None = None,
    delivery: Document | None = None,
) -> Object:
    spec: Object = {"channel": _reference(flow, channel), "subscriber": _destination(subscriber)}
    if reply:
        spec["reply"] = _destination(reply)
    if delivery:
        spec["delivery"] = copy.deepcopy(dict(delivery))
    return {
        "apiVersion": eventing.SUBSCRIPTION.api_version,
        "kind": eventing.SUBSCRIPTION.kind,
        "metadata": {
            "name": name,
            "namespace": objects.namespace(flow),
            "ownerReferences": [objects.controller_reference(flow)],
        },
        "spec": spec,
    }


def _destination(value: Document) -> Object:
    return {field: copy.deepcopy(value[field]) for field in _DESTINATION if value.get(field)}


def sequence_policies(flow: Document, parts: Flow, policies: Iterable[Document]) -> list[Object]:
    """Who may send to each channel: to the first as to the flow, to the others the step before."""
    name = objects.name(flow)
    return [
        *(
            derived.of_policy(_child(name, "-", policy), flow, parts.channels[0], policy)
            for policy in policies
        ),
        *(
            derived.of_subscription(_child(name, "-", channel), flow, channel, subscription)
            for channel, subscription in zip(parts.channels[1:], parts.subscriptions, strict=False)
        ),
    ]


def parallel_policies(flow: Document, parts: Flow, policies: Iterable[Document]) -> list[Object]:
    """Likewise: to the channel of a branch its filter's subscription alone."""
    name = objects.name(flow)
    return [
        *(
            derived.of_policy(_child(name, "-ep-", policy), flow, parts.channels[0], policy)
            for policy in policies
        ),
        *(
            derived.of_subscription(_child(name, "-ep-", channel), flow, channel, subscription)
            for channel, subscription in zip(parts.channels[1:], parts.subscriptions, strict=False)
        ),
    ]


def _child(name: str, infix: str, other: Document) -> str:
    return names.child_name(name, f"{infix}{objects.name(other)}")


def is_of_other_channel(live: Document, desired: Document) -> bool:
    """Whether a subscription reads from another channel than it should, which cannot be changed."""
    before, after = objects.spec(live).get("channel") or {}, objects.spec(desired)["channel"]
    return any(before.get(field) != after.get(field) for field in ("apiVersion", "kind", "name"))

"""The Triggers of a function's subscriptions, and the change that `subscribe` makes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing, serving
from ondol.serverless.functions.model import Function, Subscription


def documents(function: Function, service: Mapping[str, Any]) -> list[Object]:
    """A Trigger for each subscription, which the Service (as it is served) owns."""
    return [
        {
            "apiVersion": eventing.TRIGGER.api_version,
            "kind": "Trigger",
            "metadata": {
                "name": name(function.name, index),
                "namespace": objects.namespace(service),
                "ownerReferences": [_owner(service)],
            },
            "spec": {
                "broker": subscription.source,
                "filter": {"attributes": dict(subscription.filters)},
                "subscriber": {
                    "ref": {
                        "apiVersion": f"{serving.GROUP}/v1",
                        "kind": "Service",
                        "name": function.name,
                    }
                },
            },
        }
        for index, subscription in enumerate(function.deploy.subscriptions)
    ]


def name(function: str, index: int) -> str:
    return f"{function}-function-trigger-{index}"


def _owner(service: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": f"{serving.GROUP}/v1",
        "kind": "Service",
        "name": objects.name(service),
        "uid": objects.uid(service),
    }


def surplus(function: Function, service: Mapping[str, Any], live: Sequence[Mapping[str, Any]]) -> list[str]:
    """Triggers of earlier subscriptions, which the file has no longer."""
    kept = {name(function.name, index) for index in range(len(function.deploy.subscriptions))}
    prefix = name(function.name, 0).removesuffix("0")
    return [
        objects.name(trigger)
        for trigger in live
        if objects.name(trigger).startswith(prefix)
        and objects.name(trigger) not in kept
        and any(
            owner.get("uid") == objects.uid(service)
            for owner in objects.metadata(trigger).get("ownerReferences") or ()
        )
    ]


def subscribed(function: Function, source: str, filters: Mapping[str, str]) -> Function:
    """The function with a subscription more, or with more filters in that to the same source."""
    subscriptions = list(function.deploy.subscriptions)
    for index, subscription in enumerate(subscriptions):
        if subscription.source == source:
            merged = {**subscription.filters, **filters}
            subscriptions[index] = Subscription(source=source, filters=merged)
            break
    else:
        subscriptions.append(Subscription(source=source, filters=dict(filters)))
    deploy = msgspec.structs.replace(function.deploy, subscriptions=tuple(subscriptions))
    return msgspec.structs.replace(function, deploy=deploy)

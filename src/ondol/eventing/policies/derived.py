"""EventPolicies made for the channels that another object is made of, from those that are about it.

Who may send to a Channel may send to the channel behind it; who may send to a flow, to its first channel. To
its other channels only its own subscriptions send. Needed only where tokens are asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import names
from ondol.contracts import eventing
from ondol.eventing import wellknown
from ondol.eventing.parents import require_current
from ondol.sdk import Children, Controller, Manager, controller_key

Document: TypeAlias = Mapping[str, Any]

_BY_OWNER: Final = "owner"


def of_policy(name: str, owner: Document, channel: Document, policy: Document) -> Object:
    """A policy about a channel that allows what another policy does about the owner."""
    spec = objects.spec(policy)
    copied = {field: copy.deepcopy(spec[field]) for field in ("from", "filters") if spec.get(field)}
    return _policy(name, owner, channel, copied)


def of_subscription(name: str, owner: Document, channel: Document, subscription: Document) -> Object:
    """A policy about a channel that allows a subscription to send to it."""
    sender = {
        "apiVersion": eventing.SUBSCRIPTION.api_version,
        "kind": eventing.SUBSCRIPTION.kind,
        "name": objects.name(subscription),
        "namespace": objects.namespace(subscription),
    }
    return _policy(name, owner, channel, {"from": [{"ref": sender}]})


def _policy(name: str, owner: Document, channel: Document, spec: Object) -> Object:
    target = {"apiVersion": channel["apiVersion"], "kind": channel["kind"], "name": objects.name(channel)}
    group = str(owner["apiVersion"]).partition("/")[0]
    return {
        "apiVersion": eventing.EVENT_POLICY.api_version,
        "kind": eventing.EVENT_POLICY.kind,
        "metadata": {
            "name": name,
            "namespace": objects.namespace(owner),
            "labels": {f"{group}/{str(owner['kind']).lower()}-name": objects.name(owner)[:63]},
            "ownerReferences": [objects.controller_reference(owner)],
        },
        "spec": {**spec, "to": [{"ref": target}]},
    }


def of_channel(channel: Document, backing: Document, policies: Iterable[Document]) -> list[Object]:
    """The policies about the channel that a Channel stands for."""
    return [
        of_policy(
            names.child_name(f"{objects.name(policy)}-", objects.name(backing)), channel, backing, policy
        )
        for policy in policies
    ]


class DerivedPolicies:
    """Keeps the policies made for the objects of one kind."""

    def __init__(self, manager: Manager, owner: Resource) -> None:
        self._client = manager.client
        self._owner = owner
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)
        self._policies = manager.informer(eventing.EVENT_POLICY)
        self._policies.add_index(_BY_OWNER, owner_uid)

    def watch(self, controller: Controller) -> None:
        """Reconcile an owner whose policies somebody changed."""
        controller.watch(self._policies, controller_key(self._owner.api_version, self._owner.kind))

    def forget(self, owner: Key) -> None:
        self._children.forget(owner)

    async def keep(self, owner: Object, desired: Iterable[Object]) -> None:
        """Make these policies, and no others that belong to the owner."""
        family = self._children.of(owner)
        for policy in desired:
            live = self._policies.lister.get(objects.key(policy))
            await require_current(self._client, self._owner, owner, live)
            await family.apply(eventing.EVENT_POLICY, policy, live)
        own = self._policies.lister.by_index(_BY_OWNER, objects.uid(owner))
        await family.prune(eventing.EVENT_POLICY, own)


def owner_uid(obj: Object) -> list[str]:
    """For an index of children by their controller."""
    owner = objects.controller_of(obj)
    return [str(owner["uid"])] if owner is not None else []

"""The service accounts as which Triggers, Subscriptions and sources send events where tokens are asked for.

With `authentication-oidc` each of them has one, which goes when the flag is turned off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import names
from ondol.eventing import verdicts, wellknown
from ondol.eventing.configuration import Features
from ondol.eventing.configuration.features import OIDC
from ondol.eventing.parents import require_current
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Children, Controller, Manager, children, controller_key

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom an object sends events; no name where nobody asks."""

    verdict: Verdict
    service_account: str = ""


DISABLED = Identity(Verdict("True", f"{OIDC} feature disabled"))


def service_account_name(resource: Resource, obj: Document) -> str:
    return names.child_name(objects.name(obj), f"-oidc-{resource.group}-{resource.kind}").lower()


def service_account(resource: Resource, obj: Document) -> Object:
    """The account of an object that sends events."""
    name = objects.name(obj)
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": service_account_name(resource, obj),
            "namespace": objects.namespace(obj),
            "labels": {wellknown.OIDC_LABEL: "enabled"},
            "annotations": {
                "description": f'Service Account for OIDC Authentication for {resource.kind} "{name}"'
            },
            "ownerReferences": [objects.controller_reference(obj)],
        },
    }


class Identities:
    """Keeps the accounts of one kind's objects."""

    def __init__(self, manager: Manager, resource: Resource) -> None:
        self._client = manager.client
        self._resource = resource
        self._accounts = manager.informer(
            resources.SERVICE_ACCOUNT, label_selector=f"{wellknown.OIDC_LABEL}=enabled"
        )
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)

    def watch(self, controller: Controller) -> None:
        controller.watch(self._accounts, controller_key(self._resource.api_version, self._resource.kind))

    def forget(self, key: Key) -> None:
        self._children.forget(key)

    async def ensure(self, obj: Object, features: Features) -> Identity:
        """The object's identity, made or taken away as the flag says."""
        name = service_account_name(self._resource, obj)
        live = self._accounts.lister.get(Key(objects.namespace(obj), name))
        if not features.oidc:
            if live is not None and objects.is_controlled_by(live, obj):
                await children.delete(self._client, resources.SERVICE_ACCOUNT, live)
            return DISABLED
        await require_current(self._client, self._resource, obj, live)
        try:
            desired = service_account(self._resource, obj)
            await self._children.of(obj).apply(resources.SERVICE_ACCOUNT, desired, live)
        except children.NotOwned:
            message = f"service account {name} not owned by {self._resource.kind} {objects.name(obj)}"
            reason = "Unable to resolve service account for OIDC authentication"
            return Identity(verdicts.failed(reason, message), name)
        return Identity(verdicts.OK, name)

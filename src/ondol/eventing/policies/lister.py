"""EventPolicies as other controllers see them: those that are about an object, and word when they change."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.contracts import eventing
from ondol.eventing.policies import applying
from ondol.eventing.policies.applying import Document
from ondol.sdk import Controller, Informer, Manager


class Policies:
    """Reads only."""

    def __init__(self, manager: Manager) -> None:
        self._policies = manager.informer(eventing.EVENT_POLICY)

    def about(self, resource: Resource, obj: Document) -> tuple[Object, ...]:
        """The policies that hold for an object of this kind, in order of name."""
        listed = self._policies.lister.list(objects.namespace(obj))
        return tuple(dict(policy) for policy in applying.applying(listed, resource, obj))

    def watch(self, controller: Controller, resource: Resource, informer: Informer) -> None:
        """Reconcile the objects of this informer that a policy is about when it changes."""

        def keys(policy: Object) -> list[Key]:
            listed = informer.lister.list(objects.namespace(policy))
            return [objects.key(obj) for obj in listed if applying.is_about(policy, resource, obj)]

        controller.watch(self._policies, keys)

"""`World`: what policies are asked about a write, and what their expressions see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Generic

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.admission.request import Request
from ondol.apiserver.policies import parameters
from ondol.apiserver.policies.definitions import Binding, P, Policy
from ondol.apiserver.policies.parameters import Misconfigured
from ondol.apiserver.ports import Authorizer
from ondol.apiserver.state import State
from ondol.apiserver.strategy import Context
from ondol.apiserver.webhooks import attributes as views
from ondol.apiserver.webhooks import authorizing
from ondol.apiserver.webhooks.attributes import Attributes

_NOT_SHOWN: Final = ("managedFields", "ownerReferences")
"""Of the metadata of a namespace."""
_NAMESPACE: Final = ("", "v1", "Namespace")


@dataclass(frozen=True, slots=True)
class Invocation(Generic[P]):
    """A policy that is about a write, by one binding and with one parameter."""

    policy: Policy[P]
    binding: Binding | None
    attributes: Attributes
    """The write in the version of the kind that the policy asked for."""
    param: Object | None = None
    failure: str = ""
    """Why it cannot be followed; then there may be no binding."""

    @property
    def uid(self) -> str:
        param = self.param or {}
        name = f"{objects.namespace(param)}/{objects.name(param)}"
        return f"policy/{self.policy.name}/{self.binding.name if self.binding else ''}/{name}"

    @property
    def title(self) -> str:
        return f"'{self.policy.name}'" + (f" with binding '{self.binding.name}'" if self.binding else "")


class World:
    """The objects and the authorizer of one server, as policies see them."""

    def __init__(self, state: State, authorizer: Authorizer) -> None:
        self._state = state
        self._authorizer = authorizer

    async def invocations(
        self, policies: tuple[Policy[P], ...], context: Context, request: Request
    ) -> AsyncIterator[Invocation[P]]:
        """Those of the policies that are about a write, in order: for each binding and each parameter."""
        attributes = views.of(context, request)
        catalogue = self._state.catalogue
        for policy in policies:
            version = policy.constraints.version_for(attributes, catalogue, self._namespace)
            if version is None:
                continue
            seen = await views.in_version(attributes, version)
            try:
                kind = policy.param_kind
                resource = parameters.resource_of(kind, self._state) if kind is not None else None
            except Misconfigured as error:
                yield Invocation(policy, None, seen, failure=f"failed to configure policy: {error}")
                continue
            for binding in policy.bindings:
                match = binding.constraints
                if match and match.version_for(attributes, catalogue, self._namespace) is None:
                    continue
                try:
                    params = parameters.collect(
                        resource, binding.param_ref, attributes.namespace, self._state
                    )
                except Misconfigured as error:
                    yield Invocation(policy, binding, seen, failure=f"failed to configure binding: {error}")
                    continue
                for param in params:
                    yield Invocation(policy, binding, seen, param)

    def _namespace(self, name: str) -> Object | None:
        return self._state.lookup(resources.NAMESPACE, "", name)

    def activation(self, attributes: Attributes, param: Object | None) -> dict[str, Any]:
        """The variables, but for the policy's own. A namespace is not shown as that of itself."""
        namespace = self._namespace(attributes.namespace) if attributes.namespace else None
        is_namespace = attributes.kind == _NAMESPACE
        return {
            "object": attributes.obj,
            "oldObject": attributes.old,
            "request": attributes.document(),
            "params": param,
            "namespaceObject": None if namespace is None or is_namespace else _shown(namespace),
            **authorizing.variables(self._authorizer, attributes),
        }


def _shown(namespace: Object) -> Object:
    metadata = {k: v for k, v in objects.metadata(namespace).items() if k not in _NOT_SHOWN}
    return {"metadata": metadata, "spec": objects.spec(namespace), "status": namespace.get("status") or {}}

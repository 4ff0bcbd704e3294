"""What the expressions of a policy see of a write."""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver.ports import Authorizer
from ondol.apiserver.webhooks import authorizing
from ondol.apiserver.webhooks.attributes import Attributes

_NOT_SHOWN: Final = ("managedFields", "ownerReferences")
"""Of the metadata of a namespace."""
_NAMESPACE: Final = ("", "v1", "Namespace")


def activation(
    attributes: Attributes, param: Object | None, namespace: Object | None, authorizer: Authorizer
) -> dict[str, Any]:
    """The variables, but for the policy's own. A namespace is not shown as that of itself."""
    is_namespace = attributes.kind == _NAMESPACE
    return {
        "object": attributes.obj,
        "oldObject": attributes.old,
        "request": attributes.document(),
        "params": param,
        "namespaceObject": None if namespace is None or is_namespace else _shown(namespace),
        **authorizing.variables(authorizer, attributes),
    }


def _shown(namespace: Object) -> Object:
    metadata = {k: v for k, v in objects.metadata(namespace).items() if k not in _NOT_SHOWN}
    return {"metadata": metadata, "spec": objects.spec(namespace), "status": namespace.get("status") or {}}

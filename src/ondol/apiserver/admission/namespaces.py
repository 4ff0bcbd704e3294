"""NamespaceLifecycle: nothing is created in a namespace that is missing or going away."""

from __future__ import annotations

from typing import Final

from ondol.api import objects, resources, status
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors

IMMORTAL: Final = frozenset({"default", "kube-system", "kube-public"})


def admit(parts: Parts, context: Context, request: Request) -> None:
    del context
    resource = request.served.resource
    if request.operation == "delete":
        if resource == resources.NAMESPACE and request.old and objects.name(request.old) in IMMORTAL:
            name = objects.name(request.old)
            raise errors.Forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted',
                details={"name": name, "kind": "namespaces"},
            )
        return
    if request.operation != "create" or not resource.namespaced:
        return
    namespace = parts.state.lookup(resources.NAMESPACE, "", request.namespace)
    if namespace is None:
        raise status.not_found(resources.NAMESPACE, request.namespace)
    if objects.is_deleting(namespace) and not request.subresource:
        raise _terminating(request)


def _terminating(request: Request) -> errors.Forbidden:
    resource, name = request.served.resource, objects.name(request.new)
    cause = errors.Cause("NamespaceTerminating", f"namespace {request.namespace} is being terminated")
    cause = errors.Cause(cause.reason, cause.message, "metadata.namespace")
    return errors.Forbidden(
        f'{resource.group_resource} "{name}" is forbidden: unable to create new content in namespace '
        f"{request.namespace} because it is being terminated",
        causes=[cause],
        details={
            "name": name,
            "kind": resource.plural,
            **({"group": resource.group} if resource.group else {}),
        },
    )

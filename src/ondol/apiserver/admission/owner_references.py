"""OwnerReferencesPermissionEnforcement: who may say what belongs to what; a setting, off by default.

Without it whoever may write an object may have it removed by the garbage collector, by an owner that is not
there, and may keep an owner from being deleted. Follows plugin/pkg/admission/gc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ondol.api import objects, resources, status
from ondol.api.objects import Object
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import rbac
from ondol.apiserver.auth.rbac import Attributes
from ondol.apiserver.strategy import Context
from ondol.base import errors

_ANYTHING: Final = Attributes("update", "*", "*", "finalizers", name="*")
_DELETE: Final = "cannot set an ownerRef on a resource you can't delete"
_BLOCK: Final = (
    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
)


def admit(parts: Parts, context: Context, request: Request) -> None:
    if not parts.config.enforce_owner_references or parts.rbac is None or request.operation == "delete":
        return
    resource = request.served.resource
    if (resource, request.subresource) == (resources.POD, "status"):
        return  # nobody changes them so
    new, old = _references(request.new), _references(request.old or {})
    if new == old:
        return
    if request.operation != "create":
        name, part = objects.name(request.new), request.subresource
        attributes = Attributes("delete", resource.group, resource.plural, part, request.namespace, name)
        _require(parts.rbac, context, request, attributes, _DELETE)
    blocking = list(_newly_blocking(new, old))
    if blocking and not parts.rbac.authorize(context.user, _ANYTHING).allowed:
        for reference in blocking:
            for attributes in _owners(parts, request, reference):
                _require(parts.rbac, context, request, attributes, _BLOCK)


def _references(obj: Object) -> Sequence[Any]:
    return objects.metadata(obj).get("ownerReferences") or ()


def _newly_blocking(new: Sequence[Any], old: Sequence[Any]) -> Iterator[Any]:
    """Those that keep their owner from going, and did not before."""
    before = {each.get("uid"): each for each in old}
    for reference in new:
        was = before.get(reference.get("uid")) or {}
        if reference.get("blockOwnerDeletion") and not was.get("blockOwnerDeletion"):
            yield reference


def _owners(parts: Parts, request: Request, reference: Any) -> list[Attributes]:
    """The right to the finalizers of each resource that the owner's kind may be."""
    version, kind = str(reference.get("apiVersion") or ""), str(reference.get("kind") or "")
    group = version.rpartition("/")[0]
    served = [each.resource for each in parts.state.catalogue if each.resource.api_version == version]
    kinds = [each for each in served if each.kind == kind]
    if not kinds:
        text = (
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for "
            f"APIVersion {version} Kind {kind}"
        )
        raise _forbidden(request, text)
    return [
        Attributes(
            "update",
            group,
            each.plural,
            "finalizers",
            request.namespace if each.namespaced else "",
            str(reference.get("name") or ""),
        )
        for each in kinds
    ]


def _require(
    authorizer: rbac.Authorizer, context: Context, request: Request, attributes: Attributes, text: str
) -> None:
    decision = authorizer.authorize(context.user, attributes)
    if not decision.allowed:
        raise _forbidden(request, f"{text}: {decision.reason}, <nil>")


def _forbidden(request: Request, text: str) -> errors.Forbidden:
    return status.forbidden(request.served.resource, objects.name(request.new), text)

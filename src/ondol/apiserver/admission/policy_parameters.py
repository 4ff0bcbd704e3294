"""Who binds an admission policy to parameters must be able to read them: the policy shows what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, status
from ondol.api.objects import Object, Resource
from ondol.api.schema import causes
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import rbac
from ondol.apiserver.strategy import Context

_GROUP: Final = "admissionregistration.k8s.io"
_VALIDATING: Final = Resource(
    _GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
_MUTATING: Final = Resource(
    _GROUP, "v1beta1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False
)


def admit_policy(parts: Parts, context: Context, request: Request) -> None:
    """Refuse a kind of parameters of which the author may not read every object."""
    if request.operation == "delete" or request.subresource or parts.rbac is None:
        return
    kind = objects.spec(request.new).get("paramKind")
    if kind is None or kind == objects.spec(request.old or {}).get("paramKind"):
        return
    group, resource = _resource(parts, kind)
    attributes = rbac.Attributes("get", group, resource, "", rbac.ALL, rbac.ALL)
    if not parts.rbac.authorize(context.user, attributes).allowed:
        why = (
            f'user {context.user.name} must have "get" permission on all objects of the referenced paramKind '
            f"(kind={kind.get('kind')}, apiVersion={kind.get('apiVersion')})"
        )
        _refuse(request, "spec.paramKind", why)


def admit_validating_binding(parts: Parts, context: Context, request: Request) -> None:
    _admit_binding(parts, context, request, _VALIDATING)


def admit_mutating_binding(parts: Parts, context: Context, request: Request) -> None:
    _admit_binding(parts, context, request, _MUTATING)


def _admit_binding(parts: Parts, context: Context, request: Request, policies: Resource) -> None:
    """Refuse parameters that the author may not read, as far as it is clear which they are."""
    if request.operation == "delete" or parts.rbac is None:
        return
    spec, was = objects.spec(request.new), objects.spec(request.old or {})
    ref, policy_name = spec.get("paramRef"), spec.get("policyName") or ""
    if ref is None or (ref, policy_name) == (was.get("paramRef"), was.get("policyName")):
        return
    policy = parts.state.lookup(policies, "", policy_name)
    kind = objects.spec(policy or {}).get("paramKind")
    group, resource = _resource(parts, kind) if kind is not None else (rbac.ALL, rbac.ALL)
    verb = "get" if ref.get("name") else "list"
    attributes = rbac.Attributes(verb, group, resource, "", ref.get("namespace") or "", ref.get("name") or "")
    if not parts.rbac.authorize(context.user, attributes).allowed:
        _refuse(request, "spec.paramRef", _why(policy, policy_name, context.user.name, verb))


def _why(policy: Object | None, policy_name: str, user: str, verb: str) -> str:
    if policy is None:
        return (
            f"unable to get policy {policy_name} to determine minimum required permissions and user {user} "
            f'does not have "{verb}" permission for all groups, versions and resources'
        )
    return f'user {user} does not have "{verb}" permission on the object referenced by paramRef'


def _resource(parts: Parts, kind: Mapping[str, Any]) -> tuple[str, str]:
    """Group and resource of a kind of parameters; all resources of the group if it is not served."""
    version = str(kind.get("apiVersion") or "")
    served = parts.state.catalogue.registry.of(version, str(kind.get("kind") or ""))
    return version.rpartition("/")[0], served.plural if served is not None else rbac.ALL


def _refuse(request: Request, path: str, why: str) -> None:
    name = objects.name(request.new)
    raise status.invalid(request.served.resource, name, [causes.forbidden(path, why)])

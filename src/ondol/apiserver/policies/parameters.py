"""The objects that a binding hands to its policy.

Follows Kubernetes' `policy/generic/policy_dispatcher.go`, `CollectParams`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ondol.api import labels, objects
from ondol.api.objects import Object, Resource
from ondol.apiserver.state import State
from ondol.base import errors


class Misconfigured(errors.OndolError):
    """A policy or binding that cannot be followed for this write."""


def resource_of(kind: Mapping[str, Any], state: State) -> Resource:
    """The resource of a `paramKind`; `Misconfigured` if there is none."""
    api_version, name = str(kind.get("apiVersion") or ""), str(kind.get("kind") or "")
    served = state.catalogue.registry.of(api_version, name)
    if served is None:
        group, _, version = api_version.rpartition("/")
        raise Misconfigured(
            f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={name}'"
        )
    return served.resource


def collect(
    resource: Resource | None, reference: Mapping[str, Any] | None, namespace: str, state: State
) -> list[Object | None]:
    """The parameters for a write in a namespace: none to evaluate without any; empty to leave it alone."""
    if resource is None or reference is None:
        return [None]
    chosen = list(_chosen(resource, reference, _namespace(resource, reference, namespace), state))
    if not chosen and reference.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    return chosen


def _namespace(resource: Resource, reference: Mapping[str, Any], namespace: str) -> str:
    own = str(reference.get("namespace") or "")
    if not resource.namespaced:
        if own:
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        return ""
    if not own and not namespace:
        raise Misconfigured(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        )
    return own or namespace


def _chosen(
    resource: Resource, reference: Mapping[str, Any], namespace: str, state: State
) -> Iterator[Object | None]:
    name, selector = reference.get("name"), reference.get("selector")
    if name:
        if selector is not None:
            raise Misconfigured("paramRef.name and paramRef.selector are mutually exclusive")
        param = state.lookup(resource, namespace, str(name))
        if param is not None:
            yield param
    elif selector is not None:
        selected = labels.from_document(selector)
        for param in state.list_objects(resource, namespace):
            if selected.matches(objects.labels(param)):
                yield param
    else:
        raise Misconfigured("one of name or selector must be provided")

"""What a path and method mean: verb, group, version, resource, subresource, namespace and name.

Follows apiserver `pkg/endpoints/request/requestinfo.go`; pure, and the base of routing and of
authorisation alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ondol.api import fields, parameters
from ondol.base import errors

_VERBS: Final = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# These stand below a namespace's name and are parts of the namespace itself, not resources in it.
_NAMESPACE_SUBRESOURCES: Final = frozenset({"status", "finalize"})


class RequestInfo(NamedTuple):
    """A request to a resource, or to a plain path when `resource` is empty."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""
    """What follows the subresource, for proxies."""


def parse(method: str, path: str, query: Mapping[str, str]) -> RequestInfo:
    """The meaning of a request line."""
    parts = path.strip("/").split("/")
    if len(parts) >= 3 and parts[0] == "api":
        return _resource(method, path, query, ("", parts[1]), parts[2:])
    if len(parts) >= 4 and parts[0] == "apis":
        return _resource(method, path, query, (parts[1], parts[2]), parts[3:])
    return RequestInfo(method.lower(), path)


def _resource(
    method: str, path: str, query: Mapping[str, str], group_version: tuple[str, str], parts: list[str]
) -> RequestInfo:
    verb = _VERBS.get(method, "")
    if parts[0] == "watch" and len(parts) > 1:
        verb, parts = "watch", parts[1:]
    namespace = ""
    if parts[0] == "namespaces":
        if len(parts) > 1:
            namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    resource, name, subresource = (*parts, "", "")[:3]
    rest = "/".join(parts[3:])
    if resource == "namespaces" and not name:
        namespace = ""
    if verb == "watch":
        name, subresource = "", ""  # the legacy watch of one object selects it by name
        name = parts[1] if len(parts) > 1 else _named(query)
    elif not name and verb == "get":
        verb = "watch" if parameters.is_true(query.get("watch")) else "list"
        name = _named(query)
    elif not name and verb == "delete":
        verb, name = "deletecollection", _named(query)
    return RequestInfo(verb, path, *group_version, resource, subresource, namespace, name, rest)


def _named(query: Mapping[str, str]) -> str:
    """The one name a collection request is about, if its field selector says so."""
    text = query.get("fieldSelector")
    if not text:
        return ""
    try:
        return fields.parse(text).required_value("metadata.name") or ""
    except errors.BadRequest:
        return ""  # the handler reports it

"""Gateway API's objects as they are read: typed once for each version, with their age. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.mesh.gateway_api import model, names, routes
from ondol.mesh.model import istio

S = TypeVar("S", bound=msgspec.Struct)

SPECS: Final[dict[str, type[msgspec.Struct]]] = {
    "GatewayClass": model.GatewayClassSpec,
    "Gateway": model.GatewaySpec,
    "ListenerSet": model.ListenerSetSpec,
    "HTTPRoute": routes.HTTPRouteSpec,
    "GRPCRoute": routes.GRPCRouteSpec,
    "TLSRoute": routes.TLSRouteSpec,
    "TCPRoute": routes.TCPRouteSpec,
    "ReferenceGrant": model.ReferenceGrantSpec,
}


@dataclass(frozen=True, slots=True, eq=False)
class Document(Generic[S]):
    """An object and its spec; equal only to itself, for it is read once a version."""

    kind: str
    key: Key
    obj: Object
    spec: S
    created: str
    problem: str = ""
    """Why its spec could not be read: then `spec` says nothing."""

    @property
    def references(self) -> tuple[routes.BackendReference, ...]:
        """Every backend that a Route refers to, in rules and filters."""
        return tuple(_references(self.spec))

    @property
    def namespace(self) -> str:
        return self.key.namespace

    @property
    def age(self) -> tuple[str, str, str]:
        """Sorts the oldest first, then by namespace and name."""
        return (self.created, self.key.namespace, self.key.name)


def read(kind: str, obj: Object) -> Document[Any]:
    """The document of an object; one that cannot be read has its problem, and the spec of none."""
    created = str(objects.metadata(obj).get("creationTimestamp") or "")
    try:
        spec: Any = istio.read(SPECS[kind], obj)
    except istio.Refused as refused:
        return Document(kind, objects.key(obj), obj, _unread(kind, obj), created, str(refused))
    return Document(kind, objects.key(obj), obj, spec, created)


def _unread(kind: str, obj: Object) -> Any:
    """A spec with the parents alone, so that those can be told, or the class of a Gateway."""
    spec = objects.spec(obj)
    if kind == "Gateway":
        return model.GatewaySpec(str(spec.get("gatewayClassName") or ""), ())
    if kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"):
        try:
            parents = msgspec.convert(spec.get("parentRefs") or (), routes.ParentReferences)
        except msgspec.ValidationError:
            parents = ()
        if kind in names.HTTP_KINDS:
            return SPECS[kind](parent_refs=parents)
        return SPECS[kind](rules=(), parent_refs=parents, **({"hostnames": ()} if kind == "TLSRoute" else {}))
    if kind == "ListenerSet":
        return model.ListenerSetSpec(model.GatewayReference(""), ())
    if kind == "ReferenceGrant":
        return model.ReferenceGrantSpec((), ())
    return model.GatewayClassSpec("")


def _references(spec: Any) -> Iterator[routes.BackendReference]:
    for rule in spec.rules:
        filters = [*getattr(rule, "filters", ())]
        for backend in rule.backend_refs:
            yield backend
            filters += getattr(backend, "filters", ())
        for each in filters:
            if each.request_mirror is not None:
                yield each.request_mirror.backend_ref

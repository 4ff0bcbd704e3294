"""The words of delta xDS as values: type URLs, resources, requests, responses and what came of them.

Nothing here knows protobuf: a resource's body is bytes, ready to be sent. `stream` is the state
machine over these values, `server` turns them to and from gRPC messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

_API: Final = "type.googleapis.com/envoy.config."
CLUSTER: Final = f"{_API}cluster.v3.Cluster"
ENDPOINTS: Final = f"{_API}endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = f"{_API}listener.v3.Listener"
ROUTES: Final = f"{_API}route.v3.RouteConfiguration"
SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - the name of a type

EXTENSION: Final = f"{_API}core.v3.TypedExtensionConfig"
"""Filters that listeners name."""

MAKE_ORDER: Final = (CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTES, EXTENSION)
"""Make before break: what is referred to is sent before what refers to it."""

IMPLICIT_WILDCARD: Final = frozenset({CLUSTER, LISTENER})
"""Types of which a first request without names means all."""

TypeUrl: TypeAlias = str


class Origin(NamedTuple):
    """An API object that a resource was made from: its kind, address and the version that was read."""

    kind: str
    namespace: str
    name: str
    version: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Resource:
    """One named piece of configuration; equal versions mean equal bodies."""

    name: str
    version: str
    body: bytes
    origins: tuple[Origin, ...] = ()
    carries: tuple[Origin, ...] = ()
    """Objects whose words it has, too, but which are not to blame where it is refused."""


Resources: TypeAlias = Mapping[str, Resource]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent whole: every name that a resource refers to is in it."""

    resources: Mapping[TypeUrl, Resources] = field(default_factory=dict)

    def of(self, type_url: TypeUrl) -> Resources:
        return self.resources.get(type_url) or {}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks: changed interest, an answer to an earlier response, or both."""

    type_url: TypeUrl
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """Resources that changed and names that are gone."""

    type_url: TypeUrl
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The client runs these resources (or has let go of the removed names)."""

    type_url: TypeUrl
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The client refused this resource and runs `accepted`, its last good one, if there was one."""

    type_url: TypeUrl
    resource: Resource
    message: str
    accepted: Resource | None = None


Outcome: TypeAlias = Accepted | Rejected

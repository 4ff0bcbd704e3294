"""Gateways, their classes and what they refer to, as frozen structs; the CRD schemas are derived from them.

Fields, bounds and defaults are those of the standard channel of Gateway API v1.6. A value that users may
leave out has the schema's default here too, so that what is read is what the API stores.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from ondol.mesh.gateway_api import words
from ondol.mesh.gateway_api.names import GROUP

_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_CONTROLLER: Final = rf"^{_SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"
_ADDRESS_TYPE: Final = (
    r"^Hostname|IPAddress|NamedAddress|" + _SUBDOMAIN + r"\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"
)
_PROTOCOL: Final = rf"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|{_SUBDOMAIN}\/[A-Za-z0-9]+$"
_LABEL_VALUE: Final = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
SectionName = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=f"^{_SUBDOMAIN}$")]
Hostname = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=rf"^(\*\.)?{_SUBDOMAIN}$")]
PreciseHostname = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=f"^{_SUBDOMAIN}$")]
Namespace = Annotated[
    str, msgspec.Meta(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
Group = Annotated[str, msgspec.Meta(max_length=253, pattern=f"^$|^{_SUBDOMAIN}$")]
KindName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=63, pattern="^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Option = Annotated[str, msgspec.Meta(max_length=4096)]
_Options = Annotated[dict[str, _Option], msgspec.Meta(max_length=16)]


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Camel case on the wire; an unknown field is an error, so none is dropped in silence."""


class ParametersReference(Struct, frozen=True):
    group: Group
    kind: KindName
    name: Name
    namespace: Namespace | None = None


class GatewayClassSpec(Struct, frozen=True):
    controller_name: Annotated[
        str,
        msgspec.Meta(
            min_length=1, max_length=253, pattern=_CONTROLLER, extra_json_schema=words.rules(words.IMMUTABLE)
        ),
    ]
    description: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    parameters_ref: ParametersReference | None = None


# Gateway


class Expression(Struct, frozen=True):
    key: str
    operator: str
    values: Annotated[tuple[str, ...], msgspec.Meta(extra_json_schema=words.ATOMIC)] = ()


class LabelSelector(Struct, frozen=True):
    match_expressions: Annotated[tuple[Expression, ...], msgspec.Meta(extra_json_schema=words.ATOMIC)] = ()
    match_labels: dict[str, str] = {}


class RouteNamespaces(Struct, frozen=True):
    from_: Literal["All", "Selector", "Same"] = msgspec.field(default="Same", name="from")
    selector: LabelSelector | None = None


class RouteGroupKind(Struct, frozen=True):
    kind: KindName
    group: Group = GROUP


_SAME: Final = {"default": {"from": "Same"}}


class AllowedRoutes(Struct, frozen=True):
    namespaces: Annotated[RouteNamespaces, msgspec.Meta(extra_json_schema=_SAME)] = RouteNamespaces()
    kinds: Annotated[
        tuple[RouteGroupKind, ...], msgspec.Meta(max_length=8, extra_json_schema=words.ATOMIC)
    ] = ()


class SecretReference(Struct, frozen=True):
    name: Name
    group: Group = ""
    kind: KindName = "Secret"
    namespace: Namespace | None = None


class ListenerTLS(Struct, frozen=True):
    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[
        tuple[SecretReference, ...], msgspec.Meta(max_length=64, extra_json_schema=words.ATOMIC)
    ] = ()
    options: _Options = {}


class Listener(Struct, frozen=True):
    name: SectionName
    port: PortNumber
    protocol: Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=_PROTOCOL)]
    hostname: Hostname | None = None
    allowed_routes: Annotated[
        AllowedRoutes, msgspec.Meta(extra_json_schema={"default": {"namespaces": {"from": "Same"}}})
    ] = AllowedRoutes()
    tls: ListenerTLS | None = None


Listeners = Annotated[
    tuple[Listener, ...],
    msgspec.Meta(
        min_length=1,
        max_length=64,
        extra_json_schema=words.map_by("name") | words.rules(*words.LISTENERS),
    ),
]


class Address(Struct, frozen=True):
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=_ADDRESS_TYPE)] = "IPAddress"
    value: Annotated[str, msgspec.Meta(max_length=253)] | None = None


class ListenerNamespaces(Struct, frozen=True):
    from_: Literal["All", "Selector", "Same", "None"] = msgspec.field(default="None", name="from")
    selector: LabelSelector | None = None


class AllowedListeners(Struct, frozen=True):
    namespaces: Annotated[
        ListenerNamespaces, msgspec.Meta(extra_json_schema={"default": {"from": "None"}})
    ] = ListenerNamespaces()


class LocalParametersReference(Struct, frozen=True):
    group: Group
    kind: KindName
    name: Name


_KEYS: Final = words.rules(*words.METADATA_KEYS)


class Infrastructure(Struct, frozen=True):
    annotations: Annotated[dict[str, _Option], msgspec.Meta(max_length=16, extra_json_schema=_KEYS)] = {}
    labels: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=63, pattern=_LABEL_VALUE)]],
        msgspec.Meta(max_length=8, extra_json_schema=_KEYS),
    ] = {}
    parameters_ref: LocalParametersReference | None = None


class CertificateAuthority(Struct, frozen=True):
    group: Group
    kind: KindName
    name: Name
    namespace: Namespace | None = None


class FrontendValidation(Struct, frozen=True):
    ca_certificate_refs: Annotated[
        tuple[CertificateAuthority, ...],
        msgspec.Meta(min_length=1, max_length=16, extra_json_schema=words.ATOMIC),
    ]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class FrontendOfPort(Struct, frozen=True):
    validation: FrontendValidation | None = None


class PortFrontend(Struct, frozen=True):
    port: PortNumber
    tls: FrontendOfPort


class Frontend(Struct, frozen=True):
    default: FrontendOfPort
    per_port: Annotated[
        tuple[PortFrontend, ...],
        msgspec.Meta(max_length=64, extra_json_schema=words.map_by("port") | words.rules(words.UNIQUE_PORTS)),
    ] = ()


class BackendClient(Struct, frozen=True):
    client_certificate_ref: SecretReference | None = None


class GatewayTLS(Struct, frozen=True):
    backend: BackendClient | None = None
    frontend: Frontend | None = None


class GatewaySpec(Struct, frozen=True):
    gateway_class_name: Name
    listeners: Listeners
    addresses: Annotated[
        tuple[Address, ...],
        msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC | words.rules(*words.ADDRESSES)),
    ] = ()
    allowed_listeners: AllowedListeners | None = None
    infrastructure: Infrastructure | None = None
    tls: GatewayTLS | None = None


class GatewayReference(Struct, frozen=True):
    name: Name
    group: Group = GROUP
    kind: KindName = "Gateway"
    namespace: Namespace | None = None


class ListenerSetSpec(Struct, frozen=True):
    parent_ref: GatewayReference
    listeners: Listeners


# What is permitted across namespaces


class GrantFrom(Struct, frozen=True):
    group: Group
    kind: KindName
    namespace: Namespace


class GrantTo(Struct, frozen=True):
    group: Group
    kind: KindName
    name: Name | None = None


class ReferenceGrantSpec(Struct, frozen=True):
    from_: Annotated[
        tuple[GrantFrom, ...], msgspec.Meta(min_length=1, max_length=16, extra_json_schema=words.ATOMIC)
    ] = msgspec.field(name="from")
    to: Annotated[
        tuple[GrantTo, ...], msgspec.Meta(min_length=1, max_length=16, extra_json_schema=words.ATOMIC)
    ]

"""Routes as frozen structs, as `model` has Gateways."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from ondol.mesh.gateway_api import words
from ondol.mesh.gateway_api.model import (
    Group,
    Hostname,
    KindName,
    Name,
    Namespace,
    PortNumber,
    PreciseHostname,
    SectionName,
    Struct,
)
from ondol.mesh.gateway_api.names import GROUP
from ondol.mesh.model.istio import Unsupported

DURATION: Final = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
Duration = Annotated[str, msgspec.Meta(pattern=DURATION)]
_HEADER: Final = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"
HeaderName = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=_HEADER)]
_HeaderValue = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_BY_NAME: Final = words.map_by("name")
Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
_ANY_PATH: Final = {"type": "PathPrefix", "value": "/"}
_Path = Annotated[str, msgspec.Meta(max_length=1024)]


class ParentReference(Struct, frozen=True):
    name: Name
    group: Group = GROUP
    kind: KindName = "Gateway"
    namespace: Namespace | None = None
    port: PortNumber | None = None
    section_name: SectionName | None = None


ParentReferences = Annotated[
    tuple[ParentReference, ...],
    msgspec.Meta(max_length=32, extra_json_schema=words.ATOMIC | words.rules(*words.PARENTS)),
]
Hostnames = Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC)]


class BackendReference(Struct, frozen=True):
    name: Name
    group: Group = ""
    kind: KindName = "Service"
    namespace: Namespace | None = None
    port: PortNumber | None = None


class WeightedBackend(BackendReference, frozen=True):
    weight: Weight = 1


# Filters


class Header(Struct, frozen=True):
    name: HeaderName
    value: _HeaderValue


_Headers = Annotated[tuple[Header, ...], msgspec.Meta(max_length=16, extra_json_schema=_BY_NAME)]


class HeaderModifier(Struct, frozen=True):
    set: _Headers = ()
    add: _Headers = ()
    remove: Annotated[tuple[str, ...], msgspec.Meta(max_length=16, extra_json_schema=words.SET)] = ()


class Fraction(Struct, frozen=True):
    numerator: Annotated[int, msgspec.Meta(ge=0)]
    denominator: Annotated[int, msgspec.Meta(ge=1)] = 100


class RequestMirror(Struct, frozen=True):
    backend_ref: BackendReference
    percent: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class PathModifier(Struct, frozen=True):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: _Path | None = None
    replace_prefix_match: _Path | None = None


class RequestRedirect(Struct, frozen=True):
    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class URLRewrite(Struct, frozen=True):
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


_ORIGIN: Final = r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)"
_SOME: Final = {
    name: msgspec.Meta(max_length=64, extra_json_schema=words.ALONE[name]) for name in words.ALONE
}


class CORS(Struct, frozen=True):
    allow_origins: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=_ORIGIN)], ...],
        _SOME["allowOrigins"],
    ] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[
        tuple[
            Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"], ...
        ],
        msgspec.Meta(max_length=9, extra_json_schema=words.ALONE["allowMethods"]),
    ] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], _SOME["allowHeaders"]] = ()
    expose_headers: Annotated[
        tuple[HeaderName, ...], msgspec.Meta(max_length=64, extra_json_schema=words.SET)
    ] = ()
    max_age: Annotated[int, msgspec.Meta(ge=1)] = 5


class ExtensionReference(Struct, frozen=True):
    group: Group
    kind: KindName
    name: Name


class HTTPRouteFilter(Struct, frozen=True):
    type: Literal[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
    ]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirror | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: URLRewrite | None = None
    extension_ref: ExtensionReference | None = None
    cors: CORS | None = None


HTTPFilters = Annotated[
    tuple[HTTPRouteFilter, ...],
    msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC | words.rules(*words.HTTP_FILTERS)),
]


# HTTPRoute


class PathMatch(Struct, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: _Path = "/"


class HeaderMatch(Struct, frozen=True):
    name: HeaderName
    value: _HeaderValue
    type: Literal["Exact", "RegularExpression"] = "Exact"


class QueryParamMatch(Struct, frozen=True):
    name: HeaderName
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    type: Literal["Exact", "RegularExpression"] = "Exact"


HeaderMatches = Annotated[tuple[HeaderMatch, ...], msgspec.Meta(max_length=16, extra_json_schema=_BY_NAME)]


class HTTPRouteMatch(Struct, frozen=True):
    path: Annotated[PathMatch, msgspec.Meta(extra_json_schema={"default": _ANY_PATH})] = PathMatch()
    headers: HeaderMatches = ()
    query_params: Annotated[
        tuple[QueryParamMatch, ...], msgspec.Meta(max_length=16, extra_json_schema=_BY_NAME)
    ] = ()
    method: Method | None = None


class Timeouts(Struct, frozen=True):
    request: Duration | None = None
    backend_request: Duration | None = None


class Retry(Struct, frozen=True):
    """Of the experimental channel; the codes and times are acted upon as there."""

    codes: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=400, le=599)], ...], msgspec.Meta(extra_json_schema=words.SET)
    ] = ()
    attempts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    backoff: Duration | None = None


class HTTPBackend(WeightedBackend, frozen=True):
    filters: HTTPFilters = ()


_ANY_MATCH: Final = [{"path": _ANY_PATH}]


class HTTPRouteRule(Struct, frozen=True):
    name: SectionName | None = None
    matches: Annotated[
        tuple[HTTPRouteMatch, ...],
        msgspec.Meta(max_length=64, extra_json_schema=words.ATOMIC | {"default": _ANY_MATCH}),
    ] = (HTTPRouteMatch(),)
    filters: HTTPFilters = ()
    backend_refs: Annotated[
        tuple[HTTPBackend, ...], msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC)
    ] = ()
    timeouts: Timeouts | None = None
    retry: Retry | None = None
    session_persistence: Unsupported = None


class HTTPRouteSpec(Struct, frozen=True):
    parent_refs: ParentReferences = ()
    hostnames: Hostnames = ()
    rules: Annotated[
        tuple[HTTPRouteRule, ...],
        msgspec.Meta(
            min_length=1,
            max_length=16,
            extra_json_schema=words.ATOMIC
            | words.rules(*words.HTTP_RULES)
            | {"default": [{"matches": _ANY_MATCH}]},
        ),
    ] = (HTTPRouteRule(),)


# GRPCRoute


class GRPCMethodMatch(Struct, frozen=True):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: _Path | None = None
    method: _Path | None = None


class GRPCRouteMatch(Struct, frozen=True):
    method: GRPCMethodMatch | None = None
    headers: HeaderMatches = ()


class GRPCRouteFilter(Struct, frozen=True):
    type: Literal["ResponseHeaderModifier", "RequestHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirror | None = None
    extension_ref: ExtensionReference | None = None


GRPCFilters = Annotated[
    tuple[GRPCRouteFilter, ...],
    msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC | words.rules(*words.GRPC_FILTERS)),
]


class GRPCBackend(WeightedBackend, frozen=True):
    filters: GRPCFilters = ()


class GRPCRouteRule(Struct, frozen=True):
    name: SectionName | None = None
    matches: Annotated[
        tuple[GRPCRouteMatch, ...], msgspec.Meta(max_length=64, extra_json_schema=words.ATOMIC)
    ] = ()
    filters: GRPCFilters = ()
    backend_refs: Annotated[
        tuple[GRPCBackend, ...], msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC)
    ] = ()
    session_persistence: Unsupported = None


class GRPCRouteSpec(Struct, frozen=True):
    parent_refs: ParentReferences = ()
    hostnames: Hostnames = ()
    rules: Annotated[
        tuple[GRPCRouteRule, ...],
        msgspec.Meta(max_length=16, extra_json_schema=words.ATOMIC | words.rules(*words.GRPC_RULES)),
    ] = ()


# TLSRoute and TCPRoute


class StreamRule(Struct, frozen=True):
    backend_refs: Annotated[
        tuple[WeightedBackend, ...],
        msgspec.Meta(min_length=1, max_length=16, extra_json_schema=words.ATOMIC),
    ]
    name: SectionName | None = None


StreamRules = Annotated[
    tuple[StreamRule, ...], msgspec.Meta(min_length=1, max_length=1, extra_json_schema=words.ATOMIC)
]


class TLSRouteSpec(Struct, frozen=True):
    hostnames: Annotated[
        tuple[Hostname, ...],
        msgspec.Meta(
            min_length=1, max_length=1024, extra_json_schema=words.ATOMIC | words.rules(*words.HOSTS_OF_TLS)
        ),
    ]
    rules: StreamRules
    parent_refs: ParentReferences = ()


class TCPRouteSpec(Struct, frozen=True):
    rules: StreamRules
    parent_refs: ParentReferences = ()

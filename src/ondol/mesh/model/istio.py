"""Istio's traffic kinds as frozen structs: every field of Istio's, and no other.

The CRD schemas are derived from these (see `definitions`), so what Istio does not have either is an
unknown field to the API. What Istio has and the mesh does not act on is `Unsupported`: the API keeps
it, and `validation` refuses the object that says something in it. Read from documents by `read`, which
raises `Refused` with a sentence for the user.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import errors
from ondol.mesh.model import durations

T = TypeVar("T")


class Refused(errors.OndolError):
    """An object says something that cannot be configured; `reason` is a condition's reason."""

    def __init__(self, message: str, *, reason: str = "Invalid") -> None:
        super().__init__(message)
        self.reason = reason


Duration = Annotated[str, msgspec.Meta(pattern=durations.PATTERN)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]
StatusCode = Annotated[int, msgspec.Meta(ge=200, le=599)]
Host = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


_UNSUPPORTED: Final = "unsupported"
Unsupported = Annotated[Any, msgspec.Meta(extra={_UNSUPPORTED: True})]
"""A field of Istio's that nothing is done about; it may only be empty."""


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Camel case on the wire; unknown fields are errors, so none is dropped in silence."""


HOST_HEADERS: Final = ("host", ":authority")
"""The two names of the header that says whom a request is for."""


# VirtualService


class StringMatch(Struct, frozen=True):
    """One of the three; none of them means that the value must be there."""

    exact: str | None = None
    prefix: str | None = None
    regex: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class PortSelector(Struct, frozen=True):
    number: PortNumber = 0


class Destination(Struct, frozen=True):
    host: Host
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Struct, frozen=True):
    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Struct, frozen=True):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class RouteDestination(Struct, frozen=True):
    destination: Destination
    weight: Count = 0
    headers: Headers | None = None


class HTTPMatchRequest(Struct, frozen=True):
    """All of it must hold; the matches of a route are alternatives."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    port: PortNumber | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    stat_prefix: Unsupported = None


class RegexRewrite(Struct, frozen=True):
    match: str
    rewrite: str = ""


class HTTPRewrite(Struct, frozen=True):
    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRedirect(Struct, frozen=True):
    uri: str = ""
    authority: str = ""
    port: PortNumber | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: Literal["", "http", "https"] = ""
    redirect_code: Literal[0, 301, 302, 303, 307, 308] = 0
    prefix_rewrite: Unsupported = None


class HTTPBody(Struct, frozen=True):
    string: str | None = None
    bytes: str | None = None
    """Base64, as JSON carries bytes."""


class HTTPDirectResponse(Struct, frozen=True):
    status: StatusCode
    body: HTTPBody | None = None


class HTTPRetry(Struct, frozen=True):
    attempts: Count = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None
    retry_remote_localities: Unsupported = None


class Percent(Struct, frozen=True):
    value: Percentage = 0.0


class FaultDelay(Struct, frozen=True):
    fixed_delay: Duration
    percentage: Percent | None = None
    exponential_delay: Unsupported = None
    percent: Unsupported = None


class FaultAbort(Struct, frozen=True):
    http_status: StatusCode
    percentage: Percent | None = None
    grpc_status: Unsupported = None
    http2_error: Unsupported = msgspec.field(default=None, name="http2Error")


class HTTPFaultInjection(Struct, frozen=True):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HTTPMirrorPolicy(Struct, frozen=True):
    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Struct, frozen=True):
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"
    allow_origin: Unsupported = None


class HTTPRoute(Struct, frozen=True):
    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[RouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None
    delegate: Unsupported = None
    mirror_percent: Unsupported = None


class VirtualServiceSpec(Struct, frozen=True):
    hosts: Annotated[tuple[Host, ...], msgspec.Meta(min_length=1)]
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    export_to: tuple[str, ...] = ()
    tcp: Unsupported = None
    tls: Unsupported = None


# DestinationRule


class HTTPCookie(Struct, frozen=True):
    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: Unsupported = None


class RingHash(Struct, frozen=True):
    minimum_ring_size: Count = 1024


class MagLev(Struct, frozen=True):
    table_size: Annotated[int, msgspec.Meta(ge=2, le=5_000_011)] = 65537


class ConsistentHashLB(Struct, frozen=True):
    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: Unsupported = None


class LoadBalancerSettings(Struct, frozen=True):
    simple: (
        Literal["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"] | None
    ) = None
    consistent_hash: ConsistentHashLB | None = None
    warmup_duration_secs: Duration | None = None
    backend_utilization: Unsupported = None
    locality_lb_setting: Unsupported = None
    warmup: Unsupported = None
    zone_aware_lb_setting: Unsupported = None


class TCPKeepalive(Struct, frozen=True):
    probes: Count = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Struct, frozen=True):
    max_connections: Count = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TCPKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class HTTPSettings(Struct, frozen=True):
    http1_max_pending_requests: Count = msgspec.field(default=0, name="http1MaxPendingRequests")
    http2_max_requests: Count = msgspec.field(default=0, name="http2MaxRequests")
    max_requests_per_connection: Count = 0
    max_retries: Count = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = msgspec.field(
        default="DEFAULT", name="h2UpgradePolicy"
    )
    max_concurrent_streams: Count = 0
    use_client_protocol: Unsupported = None
    http2_keep_alive: Unsupported = msgspec.field(default=None, name="http2KeepAlive")


class ConnectionPoolSettings(Struct, frozen=True):
    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Struct, frozen=True):
    consecutive_5xx_errors: Count | None = msgspec.field(default=None, name="consecutive5xxErrors")
    consecutive_gateway_errors: Count | None = None
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: Count | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    min_health_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    consecutive_errors: Unsupported = None
    outlier_detection_http_error_codes: Unsupported = None


class ClientTLSSettings(Struct, frozen=True):
    mode: Literal["DISABLE", "SIMPLE"] = "DISABLE"
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_certificates: Unsupported = None
    ca_crl: Unsupported = None
    client_certificate: Unsupported = None
    credential_name: Unsupported = None
    private_key: Unsupported = None
    subject_alt_names: Unsupported = None


class PortTrafficPolicy(Struct, frozen=True):
    """Replaces the policy of the destination for its port; what is absent has its default."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TrafficPolicy(Struct, frozen=True):
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    proxy_protocol: Unsupported = None
    retry_budget: Unsupported = None
    tunnel: Unsupported = None


class Subset(Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Struct, frozen=True):
    host: Host
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: Unsupported = None


# Gateway


class ServerTLSSettings(Struct, frozen=True):
    https_redirect: bool = False
    ca_cert_credential_name: Unsupported = None
    ca_certificates: Unsupported = None
    ca_crl: Unsupported = None
    cipher_suites: Unsupported = None
    credential_name: Unsupported = None
    credential_names: Unsupported = None
    ecdh_curves: Unsupported = None
    insecure_skip_verify: Unsupported = None
    max_protocol_version: Unsupported = None
    min_protocol_version: Unsupported = None
    mode: Unsupported = None
    private_key: Unsupported = None
    server_certificate: Unsupported = None
    subject_alt_names: Unsupported = None
    tls_certificates: Unsupported = None
    verify_certificate_hash: Unsupported = None
    verify_certificate_spki: Unsupported = None


PROTOCOLS: Final = ("HTTP", "HTTP2", "GRPC")
"""What a Gateway's port may speak, in whichever case it is written."""


class Port(Struct, frozen=True):
    number: PortNumber
    name: str
    protocol: str
    target_port: Unsupported = None


class Server(Struct, frozen=True):
    port: Port
    hosts: Annotated[tuple[Host, ...], msgspec.Meta(min_length=1)]
    name: str = ""
    tls: ServerTLSSettings | None = None
    bind: Unsupported = None
    default_endpoint: Unsupported = None


class GatewaySpec(Struct, frozen=True):
    servers: Annotated[tuple[Server, ...], msgspec.Meta(min_length=1)]
    selector: dict[str, str] = {}


def unsupported(struct: type[msgspec.Struct]) -> frozenset[str]:
    """The attributes of a struct that nothing is done about."""
    names = _UNSUPPORTED_OF.get(struct)
    if names is None:
        hints = get_type_hints(struct, include_extras=True)
        names = _UNSUPPORTED_OF[struct] = frozenset(
            name
            for name, hint in hints.items()
            if get_origin(hint) is Annotated and is_unsupported(*get_args(hint))
        )
    return names


_UNSUPPORTED_OF: Final[dict[type[msgspec.Struct], frozenset[str]]] = {}


def is_unsupported(*annotations: Any) -> bool:
    return any(
        isinstance(each, msgspec.Meta) and (each.extra or {}).get(_UNSUPPORTED) for each in annotations
    )


def read(spec: type[T], obj: Object) -> T:
    """The typed spec of an object; `Refused` says which field is wrong. A null is as if it were not there."""
    try:
        return msgspec.convert(_without_nulls(objects.spec(obj)), spec)
    except msgspec.ValidationError as error:
        raise Refused(str(error).replace("`$", "`spec")) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def milliseconds(text: str, field: str) -> int:
    try:
        return durations.milliseconds(text)
    except ValueError as error:
        raise Refused(f"{field}: {error}") from error


def document(view: Struct) -> Any:
    """The view as the JSON document it came from; what was not given stays away."""
    return msgspec.to_builtins(view)

"""Istio's traffic kinds as frozen structs: every field of Istio's, and no other.

The CRD schemas are derived from these (see `definitions`), so what Istio does not have either is an
unknown field to the API. What Istio has and the mesh does not act on is `Unsupported`: the API keeps
it, and `validation` refuses the object that says something in it. Read from documents by `read`, which
raises `Refused` with a sentence for the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

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
WholePercent = Annotated[int, msgspec.Meta(ge=0, le=100)]
StatusCode = Annotated[int, msgspec.Meta(ge=200, le=599)]
Host = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


_UNSUPPORTED: Final = "unsupported"
_NOTHING_IS_DONE: Final = "the object would not do what it says"
Unsupported = Annotated[Any, msgspec.Meta(extra={_UNSUPPORTED: _NOTHING_IS_DONE})]
"""A field of Istio's that nothing is done about; it may only be empty."""
Files = Annotated[
    Any,
    msgspec.Meta(
        extra={_UNSUPPORTED: "the proxy reads no files: name a Secret, by credentialName or credentialNames"}
    ),
]
"""Paths of files in a gateway's pod; there is no such pod."""


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
    stat_prefix: str = ""


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
    prefix_rewrite: str = ""


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
    retry_remote_localities: bool | None = None


class Percent(Struct, frozen=True):
    value: Percentage = 0.0


class FaultDelay(Struct, frozen=True):
    fixed_delay: Duration
    percentage: Percent | None = None
    exponential_delay: Unsupported = None
    percent: WholePercent | None = None
    """Deprecated by Istio, which still takes it where there is no percentage."""


class FaultAbort(Struct, frozen=True):
    """One of the two: a status of HTTP, or one of gRPC by its name."""

    http_status: StatusCode | None = None
    percentage: Percent | None = None
    grpc_status: str = ""
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
    allow_origin: tuple[str, ...] = ()
    """Deprecated by Istio, which still takes it where there are no allowOrigins."""


class Delegate(Struct, frozen=True):
    """A VirtualService without hosts whose routes stand in a route's place."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    namespace: str = ""


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
    delegate: Delegate | None = None
    mirror_percent: WholePercent | None = None
    """Deprecated by Istio, which still takes it where there is no mirrorPercentage."""


class L4MatchAttributes(Struct, frozen=True):
    """All of it must hold; the matches of a route are alternatives."""

    destination_subnets: tuple[str, ...] = ()
    port: PortNumber | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    source_subnet: Unsupported = None


class TLSMatchAttributes(Struct, frozen=True):
    """The same of connections whose first bytes ask for a name by TLS."""

    sni_hosts: tuple[Host, ...]
    destination_subnets: tuple[str, ...] = ()
    port: PortNumber | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()


class L4RouteDestination(Struct, frozen=True):
    """Of connections; Istio calls it RouteDestination, and that of requests HTTPRouteDestination."""

    destination: Destination
    weight: Count = 0


class TCPRoute(Struct, frozen=True):
    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[L4RouteDestination, ...] = ()


class TLSRoute(Struct, frozen=True):
    match: tuple[TLSMatchAttributes, ...] = ()
    route: tuple[L4RouteDestination, ...] = ()


class VirtualServiceSpec(Struct, frozen=True):
    hosts: tuple[Host, ...] = ()
    """None in one that others delegate to."""
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    export_to: tuple[str, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()


# DestinationRule


class CookieAttribute(Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    value: str = ""


class HTTPCookie(Struct, frozen=True):
    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


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
    minimum_ring_size: Count = 0
    """Deprecated by Istio, which still takes it where there is no ringHash."""


class Distribute(Struct, frozen=True):
    """Localities are `region/zone/subzone`; `*` stands for whatever follows."""

    source: str = msgspec.field(default="", name="from")
    to: dict[str, WholePercent] = {}


class Failover(Struct, frozen=True):
    """From one region to another."""

    source: str = msgspec.field(default="", name="from")
    to: str = ""


class LocalityLoadBalancerSetting(Struct, frozen=True):
    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    """Labels, the most important first; one with `=value` asks for that value."""
    enabled: bool | None = None


class WarmupConfiguration(Struct, frozen=True):
    duration: Duration
    minimum_percent: Percentage | None = None
    aggression: Annotated[float, msgspec.Meta(gt=0)] | None = None


class LoadBalancerSettings(Struct, frozen=True):
    simple: (
        Literal["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"] | None
    ) = None
    consistent_hash: ConsistentHashLB | None = None
    warmup_duration_secs: Duration | None = None
    backend_utilization: Unsupported = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    warmup: WarmupConfiguration | None = None
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


class KeepAliveSettings(Struct, frozen=True):
    interval: Duration | None = None
    timeout: Duration | None = None


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
    use_client_protocol: bool = False
    http2_keep_alive: KeepAliveSettings | None = msgspec.field(default=None, name="http2KeepAlive")


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
    outlier_detection_http_error_codes: tuple[Annotated[int, msgspec.Meta(ge=100, le=599)], ...] = ()
    consecutive_errors: Unsupported = None


class ClientTLSSettings(Struct, frozen=True):
    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    sni: str = ""
    insecure_skip_verify: bool | None = None
    credential_name: str = ""
    """A Secret of the rule's namespace, with `tls.crt`, `tls.key` and perhaps `ca.crt`."""
    subject_alt_names: tuple[str, ...] = ()
    ca_certificates: Unsupported = None
    ca_crl: Unsupported = None
    client_certificate: Unsupported = None
    private_key: Unsupported = None


class PortTrafficPolicy(Struct, frozen=True):
    """Replaces the policy of the destination for its port; what is absent has its default."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Struct, frozen=True):
    target_host: Host
    target_port: PortNumber
    protocol: Literal["", "CONNECT", "POST"] = ""


class ProxyProtocol(Struct, frozen=True):
    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Struct, frozen=True):
    percent: Percentage = 20.0
    min_retry_concurrency: Count = 3
    budget_interval: Unsupported = None


class TrafficPolicy(Struct, frozen=True):
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None
    tunnel: TunnelSettings | None = None


class Subset(Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class WorkloadSelector(Struct, frozen=True):
    match_labels: dict[str, str] = {}


class DestinationRuleSpec(Struct, frozen=True):
    host: Host
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None
    """Of the pods of its namespace that call; it holds for no others then."""


# Gateway


TLSVersion: TypeAlias = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
PASSTHROUGH_MODES: Final = ("PASSTHROUGH", "AUTO_PASSTHROUGH")
"""Connections go on as they are, by the name that their first bytes ask for."""
TERMINATING_MODES: Final = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
"""TLS ends at the gateway, with a certificate out of a Secret."""


class ServerTLSSettings(Struct, frozen=True):
    https_redirect: bool = False
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSVersion = "TLS_AUTO"
    max_protocol_version: TLSVersion = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None
    ca_certificates: Files = None
    ca_crl: Files = None
    private_key: Files = None
    server_certificate: Files = None
    tls_certificates: Files = None

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of its Secrets, whichever field they stand in."""
        return self.credential_names or ((self.credential_name,) if self.credential_name else ())


HTTP_PROTOCOLS: Final = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
TLS_PROTOCOLS: Final = ("HTTPS", "TLS")
TCP_PROTOCOLS: Final = ("TCP", "MONGO")
PROTOCOLS: Final = (*HTTP_PROTOCOLS, *TLS_PROTOCOLS, *TCP_PROTOCOLS)
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
    bind: Annotated[
        Any, msgspec.Meta(extra={_UNSUPPORTED: "every Gateway listens at the ingress address of the machine"})
    ] = None
    default_endpoint: Annotated[
        Any, msgspec.Meta(extra={_UNSUPPORTED: "no loopback and no socket of the machine is a Gateway's"})
    ] = None


class GatewaySpec(Struct, frozen=True):
    servers: Annotated[tuple[Server, ...], msgspec.Meta(min_length=1)]
    selector: dict[str, str] = {}


def unsupported(struct: type[msgspec.Struct]) -> Mapping[str, str]:
    """The attributes of a struct that nothing is done about, each with the reason in words."""
    reasons = _UNSUPPORTED_OF.get(struct)
    if reasons is None:
        hints = get_type_hints(struct, include_extras=True)
        reasons = _UNSUPPORTED_OF[struct] = {
            name: reason
            for name, hint in hints.items()
            if get_origin(hint) is Annotated and (reason := _reason(*get_args(hint)))
        }
    return reasons


_UNSUPPORTED_OF: Final[dict[type[msgspec.Struct], Mapping[str, str]]] = {}


def _reason(*annotations: Any) -> str:
    extras = (each.extra or {} for each in annotations if isinstance(each, msgspec.Meta))
    return next((str(extra[_UNSUPPORTED]) for extra in extras if _UNSUPPORTED in extra), "")


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

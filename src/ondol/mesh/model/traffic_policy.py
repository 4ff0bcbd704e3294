"""Validation of DestinationRules: traffic policies that mean nothing, or that nothing can do, are refused.

The rules are those of Istio's validation, and some for what Envoy would pass over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ondol.mesh.model import istio, syntax, validation
from ondol.mesh.model.validation import Problem, Subject

_TABLE_SIZE_MAX: Final = 5_000_011
_PARTS: Final = 3
_WARMED: Final = (None, "UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "ROUND_ROBIN")
_SHARES: Final = 100


def destination_rule(spec: istio.DestinationRuleSpec, subject: Subject) -> Iterator[Problem]:
    yield from map(Problem, _destination_rule(spec))
    yield from map(Problem, validation.exported(spec.export_to, subject.namespace))


def _destination_rule(spec: istio.DestinationRuleSpec) -> Iterator[str]:
    yield from validation.placed("spec.host", syntax.host(spec.host))
    names = [subset.name for subset in spec.subsets]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"spec.subsets: {name!r} is given twice"
    for subset in spec.subsets:
        if not syntax.is_label(subset.name):
            yield f"spec.subsets: {subset.name!r} is no name of a subset"
        yield from validation.placed(f"spec.subsets[{subset.name}].labels", syntax.labels(subset.labels))
    if spec.workload_selector is not None:
        labels = syntax.labels(spec.workload_selector.match_labels)
        yield from validation.placed("spec.workloadSelector.matchLabels", labels)
    policies = [("spec.trafficPolicy", spec.traffic_policy)]
    policies += [(f"spec.subsets[{s.name}].trafficPolicy", s.traffic_policy) for s in spec.subsets]
    for path, policy in policies:
        if policy is not None:
            yield from _traffic_policy(path, policy)


def _traffic_policy(path: str, policy: istio.TrafficPolicy) -> Iterator[str]:
    if policy == istio.TrafficPolicy():
        yield f"{path}: nothing is said in it"
    yield from _settings(path, policy)
    if policy.proxy_protocol is not None and policy.tls is not None and policy.tls.mode == "ISTIO_MUTUAL":
        yield f"{path}: proxyProtocol cannot stand together with tls.mode ISTIO_MUTUAL"
    if policy.tunnel is not None:
        host = policy.tunnel.target_host
        yield from validation.placed(f"{path}.tunnel.targetHost", _whole_name(host))
    for port in policy.port_level_settings:
        here = f"{path}.portLevelSettings[{port.port.number}]"
        if not port.port.number:
            yield f"{here}: port.number must be given"
        if port == istio.PortTrafficPolicy(port.port):
            yield f"{here}: nothing is said of the port"
        yield from _settings(here, port)


def _settings(path: str, policy: istio.TrafficPolicy | istio.PortTrafficPolicy) -> Iterator[str]:
    for problem in _load_balancer(policy.load_balancer):
        yield f"{path}.loadBalancer: {problem}"
    for problem in _connection_pool(policy.connection_pool):
        yield f"{path}.connectionPool: {problem}"
    for problem in _outliers(policy.outlier_detection):
        yield f"{path}.outlierDetection: {problem}"
    for problem in _tls(policy.tls):
        yield f"{path}.tls: {problem}"


def _whole_name(host: str) -> str:
    if syntax.is_address(host):
        return ""
    return syntax.domain(host) or (
        "" if "." in host else f"{host!r} is neither a name in full nor an address"
    )


def _tls(settings: istio.ClientTLSSettings | None) -> Iterator[str]:
    if settings is None:
        return
    if settings.mode == "MUTUAL" and not settings.credential_name:
        yield "mode MUTUAL needs credentialName, a Secret of the rule's namespace"
    if settings.mode == "DISABLE" and settings.credential_name:
        yield "credentialName is for the modes SIMPLE and MUTUAL"
    if settings.mode == "ISTIO_MUTUAL" and settings != istio.ClientTLSSettings(mode=settings.mode):
        yield "mode ISTIO_MUTUAL takes names and certificates from the mesh: nothing else is said beside it"
    if settings.credential_name and not syntax.is_name(settings.credential_name):
        yield f"credentialName: {settings.credential_name!r} is no name of a Secret here"
    if settings.insecure_skip_verify and settings.subject_alt_names:
        yield "subjectAltNames cannot stand together with insecureSkipVerify"
    if not all(settings.subject_alt_names):
        yield "subjectAltNames: a name is empty"


def _connection_pool(pool: istio.ConnectionPoolSettings | None) -> Iterator[str]:
    if pool is None:
        return
    if pool.tcp is None and pool.http is None:
        yield "one of tcp and http must be given"
    if pool.http is not None:
        yield from _http(pool.http)
    tcp = pool.tcp
    if tcp is None:
        return
    yield from validation.timed(
        "tcp.", connectTimeout=tcp.connect_timeout, maxConnectionDuration=tcp.max_connection_duration
    )
    if tcp.idle_timeout is not None and istio.milliseconds(tcp.idle_timeout, "idleTimeout"):
        yield from validation.timed("tcp.", idleTimeout=tcp.idle_timeout)
    if tcp.tcp_keepalive is not None:
        keepalive = tcp.tcp_keepalive
        yield from validation.timed("tcp.tcpKeepalive.", time=keepalive.time, interval=keepalive.interval)


def _http(http: istio.HTTPSettings) -> Iterator[str]:
    yield from validation.timed("http.", idleTimeout=http.idle_timeout)
    keepalive = http.http2_keep_alive
    if keepalive is not None:
        times = {"interval": keepalive.interval, "timeout": keepalive.timeout}
        yield from validation.timed("http.http2KeepAlive.", **times)
        if keepalive.interval is None:
            yield "http.http2KeepAlive.interval must be given"
    if http.use_client_protocol and http.h2_upgrade_policy == "UPGRADE":
        yield "http.useClientProtocol and h2UpgradePolicy UPGRADE cannot stand together"


def _outliers(settings: istio.OutlierDetection | None) -> Iterator[str]:
    if settings is None:
        return
    yield from validation.timed("", interval=settings.interval, baseEjectionTime=settings.base_ejection_time)
    if settings.consecutive_local_origin_failures and not settings.split_external_local_origin_errors:
        yield "consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors"


def _load_balancer(settings: istio.LoadBalancerSettings | None) -> Iterator[str]:
    if settings is None:
        return
    yield from _warmup(settings)
    if settings.locality_lb_setting is not None:
        for problem in _locality(settings.locality_lb_setting):
            yield f"localityLbSetting.{problem}"
    if settings.consistent_hash is not None:
        yield from _hashing(settings, settings.consistent_hash)


def _hashing(settings: istio.LoadBalancerSettings, hashing: istio.ConsistentHashLB) -> Iterator[str]:
    if settings.simple is not None:
        yield "simple and consistentHash cannot stand together"
    keys = (hashing.http_header_name, hashing.http_cookie, hashing.use_source_ip)
    if sum(map(bool, (*keys, hashing.http_query_parameter_name))) != 1:
        yield (
            "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName must be given"
        )
    if hashing.http_cookie is not None and not hashing.http_cookie.name:
        yield "httpCookie.name must be given"
    if hashing.ring_hash is not None and hashing.maglev is not None:
        yield "ringHash and maglev cannot stand together"
    if hashing.maglev is not None:
        size = hashing.maglev.table_size
        if size >= _TABLE_SIZE_MAX or not _is_prime(size):
            yield f"maglev.tableSize {size} is not a prime number below {_TABLE_SIZE_MAX}"


def _warmup(settings: istio.LoadBalancerSettings) -> Iterator[str]:
    if settings.warmup is not None:
        yield from validation.timed("warmup.", duration=settings.warmup.duration)
    if settings.warmup is None and settings.warmup_duration_secs is None:
        return
    if settings.consistent_hash is not None or settings.simple not in _WARMED:
        yield "warmup is for LEAST_REQUEST and ROUND_ROBIN"


def _locality(setting: istio.LocalityLoadBalancerSetting) -> Iterator[str]:
    if setting.distribute and (setting.failover or setting.failover_priority):
        yield "distribute cannot stand together with failover or failoverPriority"
    sources = [each.source for each in setting.distribute]
    for source in sorted({source for source in sources if sources.count(source) > 1}):
        yield f"distribute: from {source!r} is given twice"
    for each in setting.distribute:
        for text in (each.source, *each.to):
            yield from validation.placed("distribute", _pattern(text))
        if sum(each.to.values()) != _SHARES:
            yield f"distribute: the shares from {each.source} add up to {sum(each.to.values())}, not 100"
    for failover in setting.failover:
        if not failover.source or not failover.to or failover.source == failover.to:
            yield "failover: from and to are two regions"
        elif "/" in failover.source + failover.to or "*" in failover.source + failover.to:
            yield "failover: from and to are regions, without zones and *"
    for word in setting.failover_priority:
        name, has_value, value = word.partition("=")
        yield from validation.placed("failoverPriority", syntax.labels({name: value if has_value else ""}))


def _pattern(text: str) -> str:
    """`region/zone/subzone`, `region/zone/*`, `region/*` or `*`."""
    parts = text.split("/")
    stars = [part for part in parts if "*" in part]
    if not all(parts) or len(parts) > _PARTS or (stars and (stars != ["*"] or parts[-1] != "*")):
        return f"{text!r} is not region/zone/subzone, with * at its end for whatever follows"
    return ""


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))

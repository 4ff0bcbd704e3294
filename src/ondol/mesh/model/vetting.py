"""What no schema can say: combinations of fields that mean nothing, refused before they are translated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ondol.mesh.model import istio
from ondol.mesh.model.istio import Refused

_TOKEN_BREAKERS: Final = frozenset(' \t\r\n"(),/:;<=>?@[\\]{}')

_RETRY_CONDITIONS: Final = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
"""Of HTTP and of gRPC. Another word the proxy would pass over in silence."""


def vet(spec: istio.Struct) -> None:
    """`Refused` with the first mistake found."""
    for problem in _problems(spec):
        raise Refused(problem)


def _problems(spec: istio.Struct) -> Iterator[str]:
    match spec:
        case istio.VirtualServiceSpec():
            yield from _virtual_service(spec)
        case istio.DestinationRuleSpec():
            yield from _destination_rule(spec)
        case istio.GatewaySpec():
            yield from _gateway(spec)
    yield from _string_matches(spec)


def _virtual_service(spec: istio.VirtualServiceSpec) -> Iterator[str]:
    if not spec.http:
        yield "spec.http: a VirtualService needs at least one route"
    if "*" in spec.hosts and (not spec.gateways or "mesh" in spec.gateways):
        yield "spec.hosts: * is for gateways; between pods name a host or a suffix such as *.example.com"
    for index, route in enumerate(spec.http):
        for problem in _route(route):
            yield f"spec.http[{index}]: {problem}"


def _route(route: istio.HTTPRoute) -> Iterator[str]:
    actions = [bool(route.route), route.redirect is not None, route.direct_response is not None]
    if sum(actions) != 1:
        yield "exactly one of route, redirect and directResponse must be given"
    if route.redirect is not None and route.rewrite is not None:
        yield "rewrite cannot stand together with redirect"
    if len(route.route) > 1 and not any(each.weight for each in route.route):
        yield "the weights of the destinations add up to 0"
    if route.mirror is not None and route.mirrors:
        yield "mirror and mirrors cannot stand together"
    rewrite = route.rewrite
    if rewrite is not None and rewrite.uri and rewrite.uri_regex_rewrite is not None:
        yield "rewrite.uri and rewrite.uriRegexRewrite cannot stand together"
    if route.retries is not None:
        yield from _retries(route.retries)
    for headers in (route.headers, *(each.headers for each in route.route)):
        for name in _header_names(headers):
            if not name or (set(name) & _TOKEN_BREAKERS and name != ":authority"):
                yield f"{name!r} is not a header name"
        for name in headers.request.add if headers is not None else ():
            if name.lower() in ("host", ":authority"):
                yield f"headers.request.add: {name} can only be set, for a request has one"
    for match in route.match:
        if match.ignore_uri_case and match.uri is not None and match.uri.regex is not None:
            yield "ignoreUriCase cannot stand together with a regex"


def _header_names(headers: istio.Headers | None) -> Iterator[str]:
    for operations in (headers.request, headers.response) if headers else ():
        yield from (*operations.set, *operations.add, *operations.remove)


def _retries(retries: istio.HTTPRetry) -> Iterator[str]:
    given = {
        "perTryTimeout": retries.per_try_timeout,
        "retryOn": retries.retry_on,
        "backoff": retries.backoff,
    }
    for name, value in given.items():
        if value and not retries.attempts:
            yield f"retries.{name} needs retries.attempts, which is 0: no retries"
    for word in filter(None, (part.strip() for part in retries.retry_on.split(","))):
        if not word.isdigit() and word not in _RETRY_CONDITIONS:
            known = ", ".join(_RETRY_CONDITIONS)
            yield f"retries.retryOn: {word!r} is none of {known}, nor a status code"


def _destination_rule(spec: istio.DestinationRuleSpec) -> Iterator[str]:
    names = [subset.name for subset in spec.subsets]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"spec.subsets: {name!r} is given twice"
    policies = [("spec.trafficPolicy", spec.traffic_policy)]
    policies += [(f"spec.subsets[{s.name}].trafficPolicy", s.traffic_policy) for s in spec.subsets]
    for path, policy in policies:
        if policy is None:
            continue
        ports = [port.load_balancer for port in policy.port_level_settings]
        for settings in (policy.load_balancer, *ports):
            for problem in _load_balancer(settings):
                yield f"{path}.loadBalancer: {problem}"


def _load_balancer(settings: istio.LoadBalancerSettings | None) -> Iterator[str]:
    hashing = settings.consistent_hash if settings is not None else None
    if settings is None or hashing is None:
        return
    if settings.simple is not None:
        yield "simple and consistentHash cannot stand together"
    keys = (hashing.http_header_name, hashing.http_cookie, hashing.use_source_ip)
    if sum(map(bool, (*keys, hashing.http_query_parameter_name))) != 1:
        yield (
            "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName must be given"
        )
    if hashing.ring_hash is not None and hashing.maglev is not None:
        yield "ringHash and maglev cannot stand together"
    if hashing.maglev is not None and not _is_prime(hashing.maglev.table_size):
        yield f"maglev.tableSize {hashing.maglev.table_size} is not a prime number"


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _gateway(spec: istio.GatewaySpec) -> Iterator[str]:
    for index, server in enumerate(spec.servers):
        for host in server.hosts:
            if "*" in host.rpartition("/")[2].removeprefix("*"):
                yield f"spec.servers[{index}].hosts: {host!r} may have * only as its first label"


def _string_matches(value: Any) -> Iterator[str]:
    """Every match in the document, wherever it stands."""
    if isinstance(value, istio.StringMatch):
        given = [name for name in ("exact", "prefix", "regex") if getattr(value, name) is not None]
        if len(given) > 1:
            yield f"a match can have only one of {' and '.join(given)}"
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _string_matches(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _string_matches(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _string_matches(item)

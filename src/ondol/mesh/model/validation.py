"""Validation beyond the schema: values and combinations of fields that mean nothing are refused.

The rules are those of Istio's validation, and some for what Envoy would pass over in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from ondol.base import comma_list
from ondol.mesh.model import carriage, grpc, istio, syntax

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
_CORS_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
)
_STATUS_CODES: Final = frozenset(status.value for status in HTTPStatus)
_DIRECT_BODY_MAX: Final = 1 << 20


def _any_port(_number: int) -> str:
    return ""


class Problem(NamedTuple):
    """A mistake, in words; the reason becomes that of the condition."""

    message: str
    reason: str = "Invalid"


class Subject(NamedTuple):
    """Whose spec is validated, and where."""

    namespace: str = ""
    name: str = ""
    port_problem: Callable[[int], str] = _any_port
    """Why no Gateway may have a port of this machine, or nothing."""
    roots: frozenset[str] = frozenset()
    """The namespaces whose objects rule everywhere."""
    cluster_domain: str = "cluster.local"


def virtual_service(spec: istio.VirtualServiceSpec, subject: Subject) -> Iterator[Problem]:
    yield from map(Problem, _virtual_service(spec))
    yield from map(Problem, exported(spec.export_to, subject.namespace))


def gateway(spec: istio.GatewaySpec, subject: Subject) -> Iterator[Problem]:
    if subject.name and not syntax.is_label(subject.name):
        yield Problem(f"metadata.name: {subject.name!r} has dots; a Gateway's name is one label")
    yield from map(Problem, _gateway(spec))
    for index, server in enumerate(spec.servers):
        for text in carriage.needs(server):
            yield Problem(f"spec.servers[{index}]{text}", "Unsupported")
        if problem := subject.port_problem(server.port.number):
            yield Problem(f"spec.servers[{index}].port.number: {problem}", "PortNotAllowed")


def unsupported(value: Any, path: str) -> Iterator[str]:
    """Every field, wherever it stands, that says something and that nothing is done about."""
    if isinstance(value, msgspec.Struct):
        ignored = istio.unsupported(type(value))
        for attribute, field in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
            content = getattr(value, attribute)
            if attribute not in ignored:
                yield from unsupported(content, f"{path}.{field}")
            elif not _is_empty(content):
                yield f"{path}.{field} is not supported: {ignored[attribute]}"
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from unsupported(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key.lower().startswith(syntax.CLAIMS):
                text = "claims of a token are not looked at, since no token is checked (IST0149)"
                yield f"{path}[{key}] is not supported: {text}"
            yield from unsupported(item, f"{path}[{key}]")


def _is_empty(value: Any) -> bool:
    """Whether a field counts as unset: generators of documents write false, zero and empty lists for that."""
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    return not value


def placed(path: str, *problems: str) -> Iterator[str]:
    """Those of the problems that are some, with their place."""
    yield from (f"{path}: {problem}" for problem in problems if problem)


def timed(path: str, **texts: str | None) -> Iterator[str]:
    for field, text in texts.items():
        if text is not None:
            yield from placed(f"{path}{field}", syntax.duration(text))


def exported(export_to: tuple[str, ...], namespace: str) -> Iterator[str]:
    meant = [namespace if name == "." and namespace else name for name in export_to]
    for name in export_to:
        if name not in (".", "*") and not syntax.is_label(name):
            yield f"spec.exportTo: {name!r} is none of ., * and a namespace"
    if len(set(meant)) < len(meant):
        yield "spec.exportTo: a namespace is given twice"
    if "*" in meant and len(meant) > 1:
        yield "spec.exportTo: * is all, and stands alone"


# VirtualService


def _virtual_service(spec: istio.VirtualServiceSpec) -> Iterator[str]:
    if not spec.hosts:
        yield from _delegate(spec)
    in_mesh = not spec.gateways or "mesh" in spec.gateways
    if not (spec.http or spec.tcp or spec.tls):
        yield "spec: a VirtualService needs at least one route, in http, tls or tcp"
    if "*" in spec.hosts and in_mesh:
        yield "spec.hosts: * is for gateways; between pods name a host or a suffix such as *.example.com"
    yield from placed("spec.hosts", *map(syntax.host, spec.hosts))
    for index, host in enumerate(spec.hosts):
        for other in spec.hosts[:index]:
            if syntax.covers(other, host):
                yield f"spec.hosts: {host} is given twice, {'again' if host == other else f'also by {other}'}"
    yield from placed("spec.gateways", *map(syntax.gateway_name, spec.gateways))
    for index, route in enumerate(spec.http):
        for problem in _route(route):
            yield f"spec.http[{index}]: {problem}"
    yield from carriage.routes(spec)


def _delegate(spec: istio.VirtualServiceSpec) -> Iterator[str]:
    """Without hosts it is one that others delegate to: who calls, and where, is theirs to say."""
    if spec.gateways:
        yield "spec.gateways: a VirtualService without hosts is one to delegate to, and has no gateways"
    if spec.tcp or spec.tls:
        yield "spec: what is delegated to (it has no hosts) has http routes alone: tcp and tls need hosts"
    for index, route in enumerate(spec.http):
        path = f"spec.http[{index}]"
        if route.delegate is not None:
            yield f"{path}.delegate: what is delegated to (it has no hosts) cannot delegate once more"
        for match in route.match:
            if match.source_labels or match.source_namespace or match.gateways:
                text = "sourceLabels, sourceNamespace and gateways are for the VirtualService that delegates"
                yield f"{path}.match: {text}"


def _route(route: istio.HTTPRoute) -> Iterator[str]:
    yield from _action(route)
    if len(route.route) > 1 and not any(each.weight for each in route.route):
        yield "the weights of the destinations add up to 0"
    if route.mirror is not None and route.mirrors:
        yield "mirror and mirrors cannot stand together"
    if route.timeout is not None and route.timeout != "0s":
        yield from timed("", timeout=route.timeout)
    yield from _destinations(route)
    yield from _headers(route)
    if route.rewrite is not None:
        yield from _rewrite(route.rewrite)
    if route.retries is not None:
        yield from _retries(route.retries)
    if route.cors_policy is not None:
        yield from _cors(route.cors_policy)
    if route.fault is not None:
        yield from _fault(route.fault)
    for match in route.match:
        yield from _match(match)


def _action(route: istio.HTTPRoute) -> Iterator[str]:
    actions = [bool(route.route), route.redirect is not None, route.direct_response is not None]
    if route.delegate is not None:
        for name in filter(None, (route.delegate.name, route.delegate.namespace)):
            yield from placed("delegate", "" if syntax.is_name(name) else f"{name!r} is no name")
        if any(actions):
            yield "delegate cannot stand together with route, redirect or directResponse"
        return
    if sum(actions) != 1:
        yield "exactly one of route, redirect and directResponse must be given"
    answered = "redirect" if route.redirect is not None else "directResponse"
    if not route.route and route.rewrite is not None:
        yield f"rewrite cannot stand together with {answered}"
    if not route.route and route.fault is not None:
        yield f"fault cannot stand together with {answered}"
    redirect = route.redirect
    if redirect is not None and redirect == istio.HTTPRedirect(redirect_code=redirect.redirect_code):
        yield "redirect: one of uri, prefixRewrite, authority, scheme, port and derivePort must be given"
    if redirect is not None and redirect.prefix_rewrite:
        yield from _prefix_redirect(redirect, route.match)
    if route.direct_response is not None and route.direct_response.body is not None:
        yield from _body(route.direct_response.body)


def _body(body: istio.HTTPBody) -> Iterator[str]:
    if max(len(body.string or ""), len(body.bytes or "")) > _DIRECT_BODY_MAX:
        yield "directResponse.body: it has more than 1 MiB"
    if body.string is not None and body.bytes is not None:
        yield "directResponse.body: one of string and bytes can be given"


def _prefix_redirect(
    redirect: istio.HTTPRedirect, matches: Iterable[istio.HTTPMatchRequest]
) -> Iterator[str]:
    if redirect.uri:
        yield "redirect.uri and redirect.prefixRewrite cannot stand together"
    if any(match.uri is not None and match.uri.regex is not None for match in matches):
        yield "redirect.prefixRewrite needs a path that is matched by prefix or exactly, not by a regex"


def _destinations(route: istio.HTTPRoute) -> Iterator[str]:
    mirrors = [each.destination for each in route.mirrors] + ([route.mirror] if route.mirror else [])
    for destination in (*(each.destination for each in route.route), *mirrors):
        path = f"destination {destination.host}"
        yield from placed(
            path, "" if destination.host != "*" else "* is no service", syntax.host(destination.host)
        )
        if destination.subset and not syntax.is_label(destination.subset):
            yield f"{path}: {destination.subset!r} is no name of a subset"
        if destination.port is not None and not destination.port.number:
            yield f"{path}: port.number must be given"


def _headers(route: istio.HTTPRoute) -> Iterator[str]:
    for headers in (route.headers, *(each.headers for each in route.route)):
        if headers is None:
            continue
        for which, operations in (("request", headers.request), ("response", headers.response)):
            of_request = which == "request"
            for names in (operations.set, operations.add):
                yield from placed(
                    f"headers.{which}",
                    *(syntax.changed_header(name, of_request=of_request) for name in names),
                    *(syntax.header_value(value) for value in names.values()),
                )
            removed = (syntax.changed_header(name, of_request=False) for name in operations.remove)
            yield from placed(f"headers.{which}.remove", *removed)
        for name in headers.request.add:
            if name.lower() in istio.HOST_HEADERS:
                yield f"headers.request.add: {name} can only be set, for a request has one"
    yield from _authority(route)


def _authority(route: istio.HTTPRoute) -> Iterator[str]:
    """A request has one host: it is rewritten in one place."""
    places = [name for name in (route.headers.request.set if route.headers else ()) if _is_host(name)]
    if route.rewrite is not None and route.rewrite.authority:
        places.append("rewrite.authority")
    if len(places) > 1:
        yield f"the host of a request is set twice, by {' and '.join(places)}"


def _is_host(name: str) -> bool:
    return name.lower() in istio.HOST_HEADERS


def _rewrite(rewrite: istio.HTTPRewrite) -> Iterator[str]:
    regex = rewrite.uri_regex_rewrite
    if rewrite.uri and regex is not None:
        yield "rewrite.uri and rewrite.uriRegexRewrite cannot stand together"
    if not rewrite.uri and not rewrite.authority and regex is None:
        yield "rewrite: one of uri, uriRegexRewrite and authority must be given"
    if regex is not None and not (regex.match and regex.rewrite):
        yield "rewrite.uriRegexRewrite needs both match and rewrite"
    elif regex is not None:
        yield from placed("rewrite.uriRegexRewrite", syntax.substitution(regex.match, regex.rewrite))


def _retries(retries: istio.HTTPRetry) -> Iterator[str]:
    fields = {
        "perTryTimeout": retries.per_try_timeout,
        "retryOn": retries.retry_on,
        "backoff": retries.backoff,
    }
    for name, value in fields.items():
        if value and not retries.attempts:
            yield f"retries.{name} needs retries.attempts, which is 0: no retries"
    yield from timed("retries.", perTryTimeout=retries.per_try_timeout, backoff=retries.backoff)
    for word in comma_list.items(retries.retry_on):
        is_code = word.isdigit() and int(word) in _STATUS_CODES
        if not is_code and word not in _RETRY_CONDITIONS:
            conditions = ", ".join(_RETRY_CONDITIONS)
            yield f"retries.retryOn: {word!r} is none of {conditions}, nor a status code"


def _cors(policy: istio.CorsPolicy) -> Iterator[str]:
    for origin in policy.allow_origins:
        if not (origin.exact or origin.prefix or origin.regex):
            yield "corsPolicy.allowOrigins: an origin says nothing"
    if not all(policy.allow_origin):
        yield "corsPolicy.allowOrigin: an origin says nothing"
    for method in policy.allow_methods:
        if method not in _CORS_METHODS:
            yield f"corsPolicy.allowMethods: {method!r} is not a method"
    for name in (*policy.allow_headers, *policy.expose_headers):
        yield from placed("corsPolicy", syntax.matched_header(name) if name != "*" else "")
    yield from timed("corsPolicy.", maxAge=policy.max_age)
    if policy.max_age is not None and istio.milliseconds(policy.max_age, "maxAge") % 1000:
        yield "corsPolicy.maxAge: browsers count whole seconds"


def _fault(fault: istio.HTTPFaultInjection) -> Iterator[str]:
    if fault.delay is None and fault.abort is None:
        yield "fault: one of delay and abort must be given"
    if fault.delay is not None:
        yield from timed("fault.delay.", fixedDelay=fault.delay.fixed_delay)
    if fault.abort is None:
        return
    if (fault.abort.http_status is None) is not bool(fault.abort.grpc_status):
        yield "fault.abort: exactly one of httpStatus and grpcStatus must be given"
    elif fault.abort.grpc_status and fault.abort.grpc_status not in grpc.STATUSES:
        names = ", ".join(grpc.STATUSES)
        yield f"fault.abort.grpcStatus: {fault.abort.grpc_status!r} is none of {names}"


def _match(match: istio.HTTPMatchRequest) -> Iterator[str]:
    yield from placed("match.statPrefix", syntax.stat_prefix(match.stat_prefix))
    if match.ignore_uri_case and match.uri is not None and match.uri.regex is not None:
        yield "ignoreUriCase cannot stand together with a regex"
    yield from placed("match.headers", *map(syntax.matched_header, match.headers))
    yield from placed("match.withoutHeaders", *map(syntax.matched_header, match.without_headers))
    yield from placed("match.sourceLabels", syntax.labels(match.source_labels))
    yield from placed("match.gateways", *map(syntax.gateway_name, match.gateways))
    if match.source_namespace and not syntax.is_label(match.source_namespace):
        yield f"match.sourceNamespace: {match.source_namespace!r} is no namespace"
    texts = (match.scheme, match.method, match.authority, *match.query_params.values())
    for text in (*texts, *match.headers.values(), *match.without_headers.values()):
        if text is not None and text.prefix == "":
            yield "match: an empty prefix says nothing; for any value leave the match itself empty"


# Gateway


def _gateway(spec: istio.GatewaySpec) -> Iterator[str]:
    names = [server.port.name for server in spec.servers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"spec.servers: the port name {name!r} is given twice"
    for index, server in enumerate(spec.servers):
        path = f"spec.servers[{index}]"
        if not server.port.name:
            yield f"{path}.port.name must be given"
        yield from (f"{path}{problem}" for problem in carriage.server(server))
        yield from placed(f"{path}.hosts", *map(syntax.gateway_host, server.hosts))


# Wherever it stands


def string_matches(value: Any) -> Iterator[str]:
    """Every match in the document: what it has too much of, and what it has and is nothing."""
    if isinstance(value, istio.StringMatch):
        kinds = [name for name in ("exact", "prefix", "regex") if getattr(value, name) is not None]
        if len(kinds) > 1:
            yield f"a match can have only one of {' and '.join(kinds)}"
        if value.regex == "":
            yield "a match has an empty regex"
    for item in _parts(value):
        yield from string_matches(item)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, tuple) else ()

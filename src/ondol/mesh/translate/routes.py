"""HTTP routes: what happens to a matched request. One function for each word of an HTTPRoute.

Called for one VirtualService and one kind of caller at a time; `Destinations` answers what the
routes refer to.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeAlias

from ondol.base import comma_list
from ondol.mesh import mirrors
from ondol.mesh.model import grpc, istio, routing
from ondol.mesh.model.istio import Refused, milliseconds
from ondol.mesh.translate import matches
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.matches import Caller

RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled,reset-before-request"
"""Istio's default, and resets before anything was sent: safe for every method."""
RETRIES: Final = 2
_HOST_ATTEMPTS: Final = 5
_REMOTE_AFTER: Final = 2
"""After how many attempts another locality is preferred, as in Istio."""
_CORS: Final = "envoy.filters.http.cors"
FAULT: Final = "envoy.filters.http.fault"
_REDIRECTS: Final = {
    0: m.routes.RedirectAction.MOVED_PERMANENTLY,
    301: m.routes.RedirectAction.MOVED_PERMANENTLY,
    302: m.routes.RedirectAction.FOUND,
    303: m.routes.RedirectAction.SEE_OTHER,
    307: m.routes.RedirectAction.TEMPORARY_REDIRECT,
    308: m.routes.RedirectAction.PERMANENT_REDIRECT,
}


_WeightedCluster: TypeAlias = m.routes.WeightedCluster.ClusterWeight


class Destinations(Protocol):
    """What routes refer to."""

    def cluster(self, destination: istio.Destination) -> str: ...

    def hash(self, destination: istio.Destination) -> istio.ConsistentHashLB | None: ...

    def is_undeclared(self, destination: istio.Destination) -> bool: ...


def translate(
    spec: istio.VirtualServiceSpec, namespace: str, caller: Caller, destinations: Destinations
) -> list[m.routes.Route]:
    """The routes of a VirtualService for one caller, in order; nothing after a route for all requests."""
    translated: list[m.routes.Route] = []
    for index, route in enumerate(spec.http):
        for match, prefix in _matching(route, caller, namespace):
            envoy_route = m.routes.Route(name=route.name or f"http-{index}", match=match)
            envoy_route.stat_prefix = prefix
            _act(envoy_route, route, destinations)
            translated.append(envoy_route)
            if takes_all(match):
                return translated
    return translated


def _matching(
    route: istio.HTTPRoute, caller: Caller, namespace: str
) -> Iterator[tuple[m.routes.RouteMatch, str]]:
    """Each match that may hold for the caller, and by what name its requests are counted, if any."""
    if not route.match:
        yield matches.anything(), ""
    for match in route.match:
        if matches.applies(match, caller, namespace):
            yield matches.route_match(match), match.stat_prefix


def takes_all(match: m.routes.RouteMatch) -> bool:
    """Whether no request is left after the match: any path, and nothing else is looked at."""
    path = match.WhichOneof("path_specifier")
    if (path == "prefix" and match.prefix == "/") or (
        path == "safe_regex" and match.safe_regex.regex == ".*"
    ):
        looks = match.headers or match.query_parameters or match.filter_state
        return not looks and not match.HasField("runtime_fraction")
    return False


def default(cluster: str, hashing: istio.ConsistentHashLB | None) -> m.routes.Route:
    """The route of a service that no VirtualService speaks of."""
    route = m.routes.Route(name="default", match=matches.anything())
    route.route.cluster = cluster
    route.route.timeout.CopyFrom(m.duration(0))
    route.route.retry_policy.CopyFrom(retry_policy(None))
    if hashing is not None:
        route.route.hash_policy.extend(hash_policies(hashing))
    return route


def passthrough(cluster: str) -> m.routes.Route:
    route = m.routes.Route(name="allow_any", match=matches.anything())
    route.route.cluster = cluster
    route.route.timeout.CopyFrom(m.duration(0))
    return route


def blocked() -> m.routes.Route:
    """What Istio answers to a request for a host that nobody registered."""
    route = m.routes.Route(name="block_all", match=matches.anything())
    route.direct_response.status = 502
    return route


def _act(envoy_route: m.routes.Route, route: istio.HTTPRoute, destinations: Destinations) -> None:
    if route.headers is not None:
        _headers(envoy_route, route.headers)
    if route.redirect is not None:
        _redirect(envoy_route.redirect, route.redirect)
    elif route.direct_response is not None:
        _direct(envoy_route.direct_response, route.direct_response)
    else:
        _forward(envoy_route, route, destinations)
        if isinstance(route, routing.HTTPRoute) and route.missing_is_error:
            code = m.routes.RouteAction.INTERNAL_SERVER_ERROR
            envoy_route.route.cluster_not_found_response_code = code
    if route.cors_policy is not None:
        envoy_route.typed_per_filter_config[_CORS].CopyFrom(m.any_of(_cors(route.cors_policy)))
    if route.fault is not None:
        envoy_route.typed_per_filter_config[FAULT].CopyFrom(m.any_of(_fault(route.fault)))


def _headers(target: m.routes.Route | _WeightedCluster, headers: istio.Headers) -> None:
    """Works on a route and on a weighted cluster alike: both have these four fields."""
    target.request_headers_to_add.extend(
        each
        for each in _added(headers.request)
        if each.header.key.lower() not in istio.HOST_HEADERS  # see _authority
    )
    target.request_headers_to_remove.extend(headers.request.remove)
    target.response_headers_to_add.extend(_added(headers.response))
    target.response_headers_to_remove.extend(headers.response.remove)


def _added(operations: istio.HeaderOperations) -> Iterator[m.base.HeaderValueOption]:
    option = m.base.HeaderValueOption
    for values, action in (
        (operations.set, option.OVERWRITE_IF_EXISTS_OR_ADD),
        (operations.add, option.APPEND_IF_EXISTS_OR_ADD),
    ):
        for key, value in sorted(values.items()):
            yield option(header=m.base.HeaderValue(key=key, value=value), append_action=action)


def _redirect(action: m.routes.RedirectAction, redirect: istio.HTTPRedirect) -> None:
    action.response_code = _REDIRECTS[redirect.redirect_code]
    if redirect.uri:
        action.path_redirect = redirect.uri
    elif redirect.prefix_rewrite:
        action.prefix_rewrite = redirect.prefix_rewrite
    if redirect.authority:
        action.host_redirect = redirect.authority
    if redirect.scheme:
        action.scheme_redirect = redirect.scheme
    if redirect.port is not None:
        action.port_redirect = redirect.port
    elif redirect.derive_port == "FROM_PROTOCOL_DEFAULT" and redirect.scheme:
        action.port_redirect = 443 if redirect.scheme == "https" else 80


def _direct(action: m.routes.DirectResponseAction, response: istio.HTTPDirectResponse) -> None:
    action.status = response.status
    body = response.body or istio.HTTPBody()
    if body.string is not None:
        action.body.inline_string = body.string
    elif body.bytes is not None:
        try:
            action.body.inline_bytes = base64.b64decode(body.bytes, validate=True)
        except binascii.Error as error:
            raise Refused(f"directResponse.body.bytes is not base64: {error}") from error


def _forward(envoy_route: m.routes.Route, route: istio.HTTPRoute, destinations: Destinations) -> None:
    action = envoy_route.route
    weighted = _weighted(route.route)
    if len(weighted) == 1:
        action.cluster = destinations.cluster(weighted[0].destination)
        if weighted[0].headers is not None:
            _headers(envoy_route, weighted[0].headers)
            _authority(action, weighted[0].headers)
    else:
        for each in weighted:
            cluster = action.weighted_clusters.clusters.add()
            cluster.name = destinations.cluster(each.destination)
            cluster.weight.value = each.weight
            if each.headers is not None:
                _headers(cluster, each.headers)
                _authority(cluster, each.headers)
    if route.headers is not None:
        _authority(action, route.headers)
    if route.rewrite is not None:
        _rewrite(action, envoy_route.match, route.rewrite)
    action.timeout.CopyFrom(m.duration(milliseconds(route.timeout, "timeout") if route.timeout else 0))
    if route.retries is None or route.retries.attempts:
        action.retry_policy.CopyFrom(retry_policy(route.retries))
    _mirror(action, route, destinations)
    hashing = (destinations.hash(each.destination) for each in weighted)
    policies = [policy for settings in hashing if settings is not None for policy in hash_policies(settings)]
    for index, policy in enumerate(policies):
        if policy not in policies[:index]:
            action.hash_policy.append(policy)


def _weighted(destinations: Sequence[istio.RouteDestination]) -> list[istio.RouteDestination]:
    """The destinations that get a share; a single one gets all, whatever its weight."""
    return list(destinations) if len(destinations) == 1 else [each for each in destinations if each.weight]


def _authority(action: m.routes.RouteAction | _WeightedCluster, headers: istio.Headers) -> None:
    """Setting the host header is rewriting the authority: Envoy refuses it as a header operation."""
    for key in list(headers.request.set):
        if key.lower() in istio.HOST_HEADERS:
            action.host_rewrite_literal = headers.request.set[key]


def _rewrite(action: m.routes.RouteAction, match: m.routes.RouteMatch, rewrite: istio.HTTPRewrite) -> None:
    if rewrite.authority:
        action.host_rewrite_literal = rewrite.authority
    regex = rewrite.uri_regex_rewrite
    if regex is not None:
        action.regex_rewrite.pattern.regex = regex.match
        action.regex_rewrite.substitution = regex.rewrite
    elif rewrite.uri and match.WhichOneof("path_specifier") == "safe_regex":
        # A regex has no prefix to replace: the whole path is.
        action.regex_rewrite.pattern.regex = ".*"
        action.regex_rewrite.substitution = rewrite.uri.replace("\\", "\\\\")
    elif rewrite.uri:
        action.prefix_rewrite = rewrite.uri


def retry_policy(retries: istio.HTTPRetry | None) -> m.routes.RetryPolicy:
    """Istio's default where nothing is said: two retries, each on a host not yet tried."""
    settings = retries or istio.HTTPRetry(attempts=RETRIES)
    names, codes = _retry_on(settings.retry_on or RETRY_ON)
    policy = m.routes.RetryPolicy(
        retry_on=",".join(names),
        num_retries=m.number(settings.attempts),
        host_selection_retry_max_attempts=_HOST_ATTEMPTS,
        retriable_status_codes=codes,
    )
    if settings.retry_ignore_previous_hosts is not False:
        policy.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts",
            typed_config=m.any_of(m.previous_hosts.PreviousHostsPredicate()),
        )
    if settings.retry_remote_localities:
        settings_of = m.previous_priorities.PreviousPrioritiesConfig(update_frequency=_REMOTE_AFTER)
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        policy.retry_priority.typed_config.CopyFrom(m.any_of(settings_of))
    if settings.per_try_timeout is not None:
        per_try = milliseconds(settings.per_try_timeout, "retries.perTryTimeout")
        policy.per_try_timeout.CopyFrom(m.duration(per_try))
    if settings.backoff is not None:
        policy.retry_back_off.base_interval.CopyFrom(
            m.duration(milliseconds(settings.backoff, "retries.backoff"))
        )
    return policy


def _retry_on(text: str) -> tuple[list[str], list[int]]:
    """Envoy's condition names, and status codes, which may stand among them."""
    words = comma_list.items(text)
    codes = [int(word) for word in words if word.isdigit()]
    names = [word for word in words if not word.isdigit()]
    if codes and "retriable-status-codes" not in names:
        names.append("retriable-status-codes")
    return names, codes


def _mirror(action: m.routes.RouteAction, route: istio.HTTPRoute, destinations: Destinations) -> None:
    listed = list(route.mirrors)
    if route.mirror is not None:
        listed.append(istio.HTTPMirrorPolicy(route.mirror, _percent_mirrored(route)))
    for each in listed:
        share = 100.0 if each.percentage is None else each.percentage.value
        is_undeclared = destinations.is_undeclared(each.destination)
        way = mirrors.UNDECLARED if is_undeclared else mirrors.NAME
        policy = action.request_mirror_policies.add(cluster=way)
        for header, text in mirrors.CALLERS.items():
            _say(policy, header, text)
        _say(policy, mirrors.TO, destinations.cluster(each.destination))
        policy.runtime_fraction.default_value.CopyFrom(m.fraction(share))
        policy.disable_shadow_host_suffix_append = True


def _percent_mirrored(route: istio.HTTPRoute) -> istio.Percent | None:
    if route.mirror_percentage is None and route.mirror_percent is not None:
        return istio.Percent(float(route.mirror_percent))
    return route.mirror_percentage


def _say(policy: m.routes.RouteAction.RequestMirrorPolicy, name: str, value: str) -> None:
    """In a header of the copy alone, whatever the request has there."""
    header = m.base.HeaderValueOption(
        header=m.base.HeaderValue(key=name, value=value),
        append_action=m.base.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    policy.request_headers_mutations.extend(
        [m.mutations.HeaderMutation(remove=name), m.mutations.HeaderMutation(append=header)]
    )


def hash_policies(hashing: istio.ConsistentHashLB) -> Iterator[m.routes.RouteAction.HashPolicy]:
    policy = m.routes.RouteAction.HashPolicy
    if hashing.http_header_name:
        yield policy(header=policy.Header(header_name=hashing.http_header_name))
    elif hashing.http_cookie is not None:
        cookie = policy.Cookie(name=hashing.http_cookie.name, path=hashing.http_cookie.path)
        for each in hashing.http_cookie.attributes:
            cookie.attributes.add(name=each.name, value=each.value)
        if hashing.http_cookie.ttl is not None:
            cookie.ttl.CopyFrom(m.duration(milliseconds(hashing.http_cookie.ttl, "httpCookie.ttl")))
        yield policy(cookie=cookie)
    elif hashing.http_query_parameter_name:
        yield policy(query_parameter=policy.QueryParameter(name=hashing.http_query_parameter_name))
    elif hashing.use_source_ip:
        yield policy(connection_properties=policy.ConnectionProperties(source_ip=True))


def _cors(policy: istio.CorsPolicy) -> m.cors.CorsPolicy:
    cors = m.cors.CorsPolicy(
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
    )
    exactly = (istio.StringMatch(exact=origin) for origin in policy.allow_origin)
    for origin in policy.allow_origins or exactly:
        if (matcher := matches.string(origin)) is not None:
            cors.allow_origin_string_match.append(matcher)
    if policy.max_age is not None:
        cors.max_age = str(milliseconds(policy.max_age, "corsPolicy.maxAge") // 1000)
    if policy.allow_credentials is not None:
        cors.allow_credentials.value = policy.allow_credentials
    cors.forward_not_matching_preflights.value = policy.unmatched_preflights != "IGNORE"
    cors.filter_enabled.default_value.CopyFrom(m.fraction(100))
    return cors


def _fault(fault: istio.HTTPFaultInjection) -> m.fault.HTTPFault:
    """Without a percentage no request is hit: Istio's default, and nobody's fault."""
    config = m.fault.HTTPFault()
    if fault.delay is not None:
        share = fault.delay.percentage.value if fault.delay.percentage else float(fault.delay.percent or 0)
        config.delay.fixed_delay.CopyFrom(m.duration(milliseconds(fault.delay.fixed_delay, "fault.delay")))
        config.delay.percentage.CopyFrom(m.fraction(share))
    if fault.abort is not None:
        share = fault.abort.percentage.value if fault.abort.percentage else 0.0
        if fault.abort.http_status is not None:
            config.abort.http_status = fault.abort.http_status
        else:
            config.abort.grpc_status = grpc.STATUSES.index(fault.abort.grpc_status)
        config.abort.percentage.CopyFrom(m.fraction(share))
    return config

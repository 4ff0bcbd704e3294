"""Rules of HTTPRoutes and GRPCRoutes as routes of the mesh, each with its rank among others. Pure.

The most particular match decides, whatever order the rules stand in: an exact path before a pattern before
the longest prefix, then whether a method is asked for, then how many headers, then how many parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from ondol.base import regexp
from ondol.mesh.bootstrap import REGEX_SIZE_MAX
from ondol.mesh.gateway_api import filters
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.filters import Effects
from ondol.mesh.gateway_api.references import Backend, Backends, Referrer
from ondol.mesh.gateway_api.routes import (
    BackendReference,
    GRPCBackend,
    GRPCRouteMatch,
    GRPCRouteRule,
    GRPCRouteSpec,
    HeaderMatch,
    HTTPBackend,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteSpec,
    PathMatch,
    QueryParamMatch,
    Retry,
    URLRewrite,
)
from ondol.mesh.model import istio, routing
from ondol.mesh.translate.routes import RETRIES, RETRY_ON

Rank: TypeAlias = tuple[int, ...]
_EXACT, _PATTERN, _PREFIX = 0, 1, 2
_MILLION: Final = 1_000_000
_ATTEMPTS_MAX: Final = 1_000
"""More than anybody waits for; the schema of Gateway API has no bound, and the proxy's number has one."""
_NO_BACKEND: Final = {"HTTPRoute": 500, "GRPCRoute": 503}
"""What a request gets that has nowhere to go; the second is gRPC's UNAVAILABLE."""


@dataclass(frozen=True, slots=True)
class Served:
    """A route with its rank by what it matches, then by its place in its object."""

    rank: Rank
    place: Rank
    route: istio.HTTPRoute


@dataclass(slots=True)
class Compiled:
    """What a Route becomes, for whichever parents."""

    served: list[Served] = field(default_factory=list)
    shares: list[istio.L4RouteDestination] = field(default_factory=list)
    """Of connections, where it is a Route of those."""
    problems: list[str] = field(default_factory=list)
    """Values that are not served: then nothing of the Route is."""
    unresolved: list[Backend] = field(default_factory=list)
    """References that lead nowhere."""


@dataclass(frozen=True, slots=True)
class _Match:
    """One way in which a request may match, with what a rewrite of the prefix stands on."""

    rank: Rank
    requests: tuple[istio.HTTPMatchRequest, ...]
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class _Weighted:
    weight: int
    backend: Backend
    effects: Effects


def compile_route(
    document: Document[HTTPRouteSpec] | Document[GRPCRouteSpec], backends: Backends
) -> Compiled:
    """The routes of a document of either kind."""
    compiled = Compiled()
    if document.problem:
        compiled.problems.append(document.problem)
        return compiled
    compiler = _Compiler(document, backends, compiled)
    for index, rule in enumerate(document.spec.rules):
        compiler.rule(index, rule)
    return compiled


class _Compiler:
    def __init__(
        self,
        document: Document[HTTPRouteSpec] | Document[GRPCRouteSpec],
        backends: Backends,
        compiled: Compiled,
    ) -> None:
        self._document = document
        self._backends = backends
        self._compiled = compiled
        self._who = Referrer(document.kind, document.namespace)
        self._status = _NO_BACKEND[document.kind]

    def rule(self, index: int, rule: Any) -> None:
        """An HTTPRouteRule or a GRPCRouteRule."""
        field_ = f"spec.rules[{index}]"
        if rule.session_persistence:
            self._compiled.problems.append(f"{field_}.sessionPersistence is not supported")
        effects = filters.effects(rule.filters, self._find)
        self._note(effects, f"{field_}.filters")
        weighted = [self._weighted(each, f"{field_}.backendRefs") for each in rule.backend_refs]
        name = f"{self._document.key}/{rule.name or index}"
        template = routing.HTTPRoute(name=name)
        if isinstance(rule, HTTPRouteRule):
            template = _timed(template, rule)
        try:
            matches = list(_matches(rule))
        except ValueError as error:
            self._compiled.problems.append(f"{field_}.matches: {error}")
            return
        for at, match in enumerate(matches):
            routes = self._routes(template, match, effects, weighted)
            for sub, route in enumerate(routes):
                self._compiled.served.append(Served(match.rank, (index, at, sub), route))

    def _find(self, reference: BackendReference) -> Backend:
        return self._backends.find(self._who, reference)

    def _note(self, effects: Effects, field_: str) -> None:
        self._compiled.unresolved += effects.unresolved
        self._compiled.problems += [f"{field_}: {text}" for text in effects.problems]

    def _weighted(self, reference: HTTPBackend | GRPCBackend, field_: str) -> _Weighted:
        backend = self._find(reference)
        if backend.destination is None:
            self._compiled.unresolved.append(backend)
        effects = filters.effects(reference.filters, self._find)
        self._note(effects, field_)
        return _Weighted(reference.weight, backend, effects)

    def _routes(
        self, template: routing.HTTPRoute, match: _Match, effects: Effects, weighted: Sequence[_Weighted]
    ) -> Iterator[istio.HTTPRoute]:
        """Those of one match, in order: where backends differ in more than headers, one for each."""
        if all(each.effects.is_plain for each in weighted) or effects.redirect is not None:
            yield from self._one(template, match, effects, weighted)
            return
        total, passed = sum(each.weight for each in weighted), 0
        for each in weighted:
            if not each.weight:
                continue
            passed += each.weight
            chance = None if passed == total else round(_MILLION * passed / total)
            requests = tuple(_by_chance(request, chance) for request in match.requests)
            narrowed = _Match(match.rank, requests, match.prefix)
            alone = _Weighted(1, each.backend, Effects())
            yield from self._one(template, narrowed, filters.joined(effects, each.effects), [alone])

    def _one(
        self, template: routing.HTTPRoute, match: _Match, effects: Effects, weighted: Sequence[_Weighted]
    ) -> Iterator[istio.HTTPRoute]:
        """One route; two where the path changes with the prefix, which may be the whole path or not."""
        headers = None if effects.headers == istio.Headers() else effects.headers
        template = msgspec.structs.replace(
            template, headers=headers, mirrors=effects.mirrors, cors_policy=effects.cors
        )
        for requests, exact in _by_form(match, effects):
            route = msgspec.structs.replace(template, match=requests)
            if effects.redirect is not None:
                to = filters.redirect(effects.redirect, match.prefix, exact=exact)
                yield msgspec.structs.replace(route, redirect=to, mirrors=(), timeout=None, retries=None)
                continue
            if effects.rewrite is not None:
                changed = filters.rewrite(effects.rewrite, match.prefix, exact=exact)
                route = msgspec.structs.replace(route, rewrite=changed)
            yield self._led(route, weighted)

    def _led(self, route: routing.HTTPRoute, weighted: Sequence[_Weighted]) -> istio.HTTPRoute:
        """To the backends; a share that leads nowhere is answered by the proxy."""
        shares = [each for each in weighted if each.weight]
        if not any(each.backend.destination for each in shares):
            refusal = istio.HTTPDirectResponse(self._status, istio.HTTPBody(string="there is no backend\n"))
            return istio.HTTPRoute(
                name=route.name,
                match=route.match,
                direct_response=refusal,
                cors_policy=route.cors_policy,
            )
        destinations = tuple(
            istio.RouteDestination(
                each.backend.destination or istio.Destination(routing.NOWHERE, port=istio.PortSelector(80)),
                each.weight,
                None if each.effects.headers == istio.Headers() else each.effects.headers,
            )
            for each in shares
        )
        lacks = self._status == _NO_BACKEND["HTTPRoute"] and any(
            each.backend.destination is None for each in shares
        )
        return msgspec.structs.replace(route, route=destinations, missing_is_error=lacks)


def _by_form(match: _Match, effects: Effects) -> Iterator[tuple[tuple[istio.HTTPMatchRequest, ...], bool]]:
    """The matches of a prefix apart, where the path is changed: of the path itself, and of what is below."""
    modifier = (effects.redirect or effects.rewrite or _NOTHING).path
    if match.prefix is None or modifier is None or modifier.replace_prefix_match is None:
        yield match.requests, False
        return
    whole = tuple(each for each in match.requests if each.uri is not None and each.uri.exact is not None)
    if whole:
        yield whole, True
    yield tuple(each for each in match.requests if each not in whole), False


_NOTHING: Final = URLRewrite()


def _by_chance(request: istio.HTTPMatchRequest, chance: int | None) -> istio.HTTPMatchRequest:
    if chance is None:
        return request
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return routing.HTTPMatchRequest(**fields, millionths=chance)


def _timed(template: routing.HTTPRoute, rule: HTTPRouteRule) -> routing.HTTPRoute:
    request = rule.timeouts.request if rule.timeouts else None
    backend = rule.timeouts.backend_request if rule.timeouts else None
    backend, retries = _some(backend), None
    if rule.retry is not None:
        retries = _retries(rule.retry, backend)
    elif backend is not None:
        retries = istio.HTTPRetry(attempts=RETRIES, per_try_timeout=backend)
    return msgspec.structs.replace(template, timeout=request, retries=retries)


def _some(duration: str | None) -> str | None:
    """A duration that is not nothing: 0s is as if it were not said."""
    return duration if duration is not None and istio.milliseconds(duration, "duration") else None


def _retries(retry: Retry, per_try: str | None) -> istio.HTTPRetry:
    """On every failure of the connection, timeouts of an attempt among them, and on the codes."""
    conditions = ",".join((RETRY_ON, "reset", *(str(code) for code in retry.codes)))
    return istio.HTTPRetry(
        attempts=RETRIES if retry.attempts is None else min(retry.attempts, _ATTEMPTS_MAX),
        per_try_timeout=per_try,
        retry_on=conditions,
        backoff=_some(retry.backoff),
    )


# Matches


def _matches(rule: HTTPRouteRule | GRPCRouteRule) -> Iterator[_Match]:
    if isinstance(rule, HTTPRouteRule):
        for match in rule.matches or (HTTPRouteMatch(),):
            yield _http_match(match)
    else:
        for each in rule.matches or (GRPCRouteMatch(),):
            yield _grpc_match(each)


def _http_match(match: HTTPRouteMatch) -> _Match:
    kind, length, uris, prefix = _path(match.path)
    headers, params = _headers(match.headers), _params(match.query_params)
    method = istio.StringMatch(exact=match.method) if match.method else None
    requests = tuple(
        istio.HTTPMatchRequest(uri=uri, method=method, headers=headers, query_params=params) for uri in uris
    )
    rank = (kind, -length, 0 if method else 1, -len(headers), -len(params))
    return _Match(rank, requests, prefix)


def _path(path: PathMatch) -> tuple[int, int, tuple[istio.StringMatch, ...], str | None]:
    """How particular it is, its length, what it matches, and the prefix, if it is one.

    A prefix goes by elements of the path, so it is the path itself and all that is below.
    """
    if path.type == "Exact":
        return _EXACT, len(path.value), (istio.StringMatch(exact=path.value),), None
    if path.type == "RegularExpression":
        return _PATTERN, len(path.value), (istio.StringMatch(regex=_pattern(path.value)),), None
    plain = path.value.rstrip("/")
    below = istio.StringMatch(prefix=f"{plain}/")
    if not plain:
        return _PREFIX, 1, (below,), ""
    return _PREFIX, len(plain), (istio.StringMatch(exact=plain), below), plain


def _grpc_match(match: GRPCRouteMatch) -> _Match:
    """The longest service, then the longest method, then the most headers."""
    headers = _headers(match.headers)
    method = match.method
    if method is None:
        uri, kind = istio.StringMatch(prefix="/"), _PREFIX
        return _Match((kind, 0, 0, -len(headers), 0), (istio.HTTPMatchRequest(uri=uri, headers=headers),))
    service, name = method.service or "", method.method or ""
    kind = _EXACT
    if method.type == "RegularExpression":
        uri, kind = istio.StringMatch(regex=_pattern(f"/{service or _ANY}/{name or _ANY}")), _PATTERN
    elif service and name:
        uri = istio.StringMatch(exact=f"/{service}/{name}")
    elif service:
        uri = istio.StringMatch(prefix=f"/{service}/")
    else:
        uri = istio.StringMatch(regex=f"/{_ANY}/{re.escape(name)}")
    rank = (kind, -len(service), -len(name), -len(headers), 0)
    return _Match(rank, (istio.HTTPMatchRequest(uri=uri, headers=headers),))


_ANY: Final = "[^/]+"


def _headers(listed: Sequence[HeaderMatch]) -> dict[str, istio.StringMatch]:
    """Of names that differ in case alone the first counts."""
    headers: dict[str, istio.StringMatch] = {}
    for each in listed:
        headers.setdefault(each.name.lower(), _text(each))
    return headers


def _params(listed: Sequence[QueryParamMatch]) -> dict[str, istio.StringMatch]:
    params: dict[str, istio.StringMatch] = {}
    for each in listed:
        params.setdefault(each.name, _text(each))
    return params


def _text(match: HeaderMatch | QueryParamMatch) -> istio.StringMatch:
    if match.type == "RegularExpression":
        return istio.StringMatch(regex=_pattern(match.value))
    return istio.StringMatch(exact=match.value)


def _pattern(text: str) -> str:
    """A pattern as the proxy takes it; `ValueError` where it is none, or is too large for the proxy."""
    size = regexp.compiled(text).size
    if size > REGEX_SIZE_MAX:
        raise ValueError(f"a pattern has {size} instructions, of at most {REGEX_SIZE_MAX}: simplify it")
    return text

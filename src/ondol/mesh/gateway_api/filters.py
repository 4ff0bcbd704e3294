"""What the filters of a rule or of a backend do, in the mesh's own words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import msgspec

from ondol.mesh.gateway_api.references import Backend
from ondol.mesh.gateway_api.routes import (
    CORS,
    BackendReference,
    GRPCRouteFilter,
    HeaderModifier,
    HTTPRouteFilter,
    PathModifier,
    RequestMirror,
    RequestRedirect,
    URLRewrite,
)
from ondol.mesh.model import istio, syntax

Filters = Sequence[HTTPRouteFilter] | Sequence[GRPCRouteFilter]
_WHOLE: Final = "^.*$"
_PERCENTS: Final = 100
_BROKEN: Final = re.compile(r"[\x00\r\n]")


@dataclass(frozen=True, slots=True)
class Effects:
    """What becomes of a request and its answer on the way."""

    headers: istio.Headers = field(default_factory=istio.Headers)
    redirect: RequestRedirect | None = None
    rewrite: URLRewrite | None = None
    mirrors: tuple[istio.HTTPMirrorPolicy, ...] = ()
    cors: istio.CorsPolicy | None = None
    unresolved: tuple[Backend, ...] = ()
    """Mirrors that lead nowhere: they are left out."""
    problems: tuple[str, ...] = ()
    """Values that are not served."""

    @property
    def is_plain(self) -> bool:
        """Whether it is nothing but changes of headers, which every backend may have of its own."""
        return self == Effects(headers=self.headers)


@dataclass(slots=True)
class _Collected:
    headers: istio.Headers = field(default_factory=istio.Headers)
    redirect: RequestRedirect | None = None
    rewrite: URLRewrite | None = None
    mirrors: list[istio.HTTPMirrorPolicy] = field(default_factory=list)
    cors: istio.CorsPolicy | None = None
    unresolved: list[Backend] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def effects(filters: Filters, find: Callable[[BackendReference], Backend]) -> Effects:
    of = _Collected()
    for each in filters:
        of.problems += filter(None, _problems(each))
        if each.request_header_modifier is not None:
            of.headers = msgspec.structs.replace(
                of.headers, request=_operations(each.request_header_modifier)
            )
        if each.response_header_modifier is not None:
            changed = _operations(each.response_header_modifier)
            of.headers = msgspec.structs.replace(of.headers, response=changed)
        if each.request_mirror is not None:
            _mirror(of, each.request_mirror, find)
        if each.extension_ref is not None:
            kind = f"{each.extension_ref.kind}.{each.extension_ref.group}"
            of.problems.append(f"filters of kind {kind} are not served: there are no extensions")
        if isinstance(each, HTTPRouteFilter):
            of.redirect = each.request_redirect or of.redirect
            of.rewrite = each.url_rewrite or of.rewrite
            of.cors = _cors(each.cors) if each.cors is not None else of.cors
    return Effects(
        of.headers,
        of.redirect,
        of.rewrite,
        tuple(of.mirrors),
        of.cors,
        tuple(of.unresolved),
        tuple(of.problems),
    )


def _problems(each: HTTPRouteFilter | GRPCRouteFilter) -> Iterator[str]:
    """What the proxy would refuse, and with it all that it serves at the host."""
    for modifier, of_request in (
        (each.request_header_modifier, True),
        (each.response_header_modifier, False),
    ):
        for header in (*modifier.set, *modifier.add) if modifier is not None else ():
            yield syntax.changed_header(header.name, of_request=of_request)
            if _BROKEN.search(header.value):
                yield f"{header.value!r} is not a header value"
        for header in modifier.add if modifier is not None else ():
            if header.name.lower() in istio.HOST_HEADERS:
                yield f"{header.name} can only be set, for a request has one"
        for name in modifier.remove if modifier is not None else ():
            yield syntax.changed_header(name, of_request=False)
    if isinstance(each, HTTPRouteFilter):
        for changed in (each.url_rewrite, each.request_redirect):
            path = changed.path if changed is not None else None
            text = (path.replace_full_path or path.replace_prefix_match or "") if path is not None else ""
            if _BROKEN.search(text):
                yield f"{text!r} is not a path"


def joined(rule: Effects, backend: Effects) -> Effects:
    """A rule's effects and then those of the one backend that is chosen."""
    return Effects(
        istio.Headers(
            _both(rule.headers.request, backend.headers.request),
            _both(rule.headers.response, backend.headers.response),
        ),
        backend.redirect or rule.redirect,
        backend.rewrite or rule.rewrite,
        (*rule.mirrors, *backend.mirrors),
        backend.cors or rule.cors,
    )


def _both(first: istio.HeaderOperations, second: istio.HeaderOperations) -> istio.HeaderOperations:
    return istio.HeaderOperations(
        first.set | second.set, first.add | second.add, (*first.remove, *second.remove)
    )


def _operations(modifier: HeaderModifier) -> istio.HeaderOperations:
    """A value stands for itself: what the proxy would read as a variable is written as it reads a sign."""
    return istio.HeaderOperations(
        {each.name: each.value.replace("%", "%%") for each in modifier.set},
        {each.name: each.value.replace("%", "%%") for each in modifier.add},
        modifier.remove,
    )


def _mirror(of: _Collected, mirror: RequestMirror, find: Callable[[BackendReference], Backend]) -> None:
    backend = find(mirror.backend_ref)
    if backend.destination is None:
        of.unresolved.append(backend)
        return
    share = float(_PERCENTS)
    if mirror.percent is not None:
        share = float(mirror.percent)
    elif mirror.fraction is not None:
        part = min(Fraction(mirror.fraction.numerator, mirror.fraction.denominator), Fraction(1))
        share = float(part * _PERCENTS)
    of.mirrors.append(istio.HTTPMirrorPolicy(backend.destination, istio.Percent(share)))


def _cors(cors: CORS) -> istio.CorsPolicy:
    return istio.CorsPolicy(
        allow_origins=tuple(_origin(each) for each in cors.allow_origins),
        allow_methods=cors.allow_methods,
        allow_headers=cors.allow_headers,
        expose_headers=cors.expose_headers,
        max_age=f"{cors.max_age}s",
        allow_credentials=True if cors.allow_credentials else None,
        unmatched_preflights="IGNORE",
    )


def _origin(text: str) -> istio.StringMatch:
    """A wildcard stands for one label or more of the name, and `*` alone for every site."""
    if text == "*":
        return istio.StringMatch(regex=".*")
    if "*" not in text:
        return istio.StringMatch(exact=text)
    return istio.StringMatch(regex=re.escape(text).replace(r"\*", "[^/:]+"))


# Paths


def rewrite(of: URLRewrite, prefix: str | None, *, exact: bool) -> istio.HTTPRewrite:
    """How a request is changed that matched a prefix, or just that path (`exact`); None for another match."""
    authority = of.hostname or ""
    path = _path(of.path, prefix, exact=exact)
    if path is None:
        return istio.HTTPRewrite(authority=authority)
    text, is_whole = path
    if is_whole:
        whole = istio.RegexRewrite(_WHOLE, text.replace("\\", "\\\\"))
        return istio.HTTPRewrite(authority=authority, uri_regex_rewrite=whole)
    return istio.HTTPRewrite(authority=authority, uri=text)


def redirect(of: RequestRedirect, prefix: str | None, *, exact: bool) -> istio.HTTPRedirect:
    path = _path(of.path, prefix, exact=exact)
    text, is_whole = path or ("", True)
    # The port of a scheme is left out of the answer; only that of the request's host must be replaced.
    derives = of.scheme is not None and of.port is None and of.hostname is None
    return istio.HTTPRedirect(
        uri=text if is_whole else "",
        prefix_rewrite="" if is_whole else text,
        authority=of.hostname or "",
        port=of.port,
        derive_port="FROM_PROTOCOL_DEFAULT" if derives else None,
        scheme=of.scheme or "",
        redirect_code=of.status_code,
    )


def _path(of: PathModifier | None, prefix: str | None, *, exact: bool) -> tuple[str, bool] | None:
    """The new path, and whether it stands for the whole or for a prefix that ends in a slash."""
    if of is None:
        return None
    if of.replace_full_path is not None:
        return of.replace_full_path or "/", True
    new = (of.replace_prefix_match or "").rstrip("/")
    if prefix is None:
        return None
    return (new or "/", True) if exact else (f"{new}/", False)

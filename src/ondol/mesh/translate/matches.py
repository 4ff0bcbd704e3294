"""A VirtualService's match as an Envoy route match, and what of it the control plane settles itself.

Port, gateways and source namespace are known for each route table, so they are decided here
(`applies`) and never matched at run time. Source labels are matched by Envoy against what the caller's
listener says of its pod: so a rule that looks at labels changes no listener, and no connection ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ondol.mesh.model import istio, routing
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.views import EVERYTHING, View

MESH: Final = "mesh"
"""The gateway name that means calls between pods."""

_PRESENT: Final = "*"
"""No regular expression, but what many write for any value; Istio reads it so."""

LABELS: Final = "ondol.labels"
"""The filter state in which a pod's listener says the pod's labels, as `labels_text` writes them."""


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a route table is made."""

    port: int
    gateways: frozenset[str]
    """Full names (`namespace/name`), or `mesh`."""
    namespace: str = ""
    who: str = ""
    """As `callers` writes it, where it is more than a namespace."""

    @property
    def as_whom(self) -> str:
        return self.who or self.namespace

    view: View = EVERYTHING
    """What of the mesh it sees; its namespace is the caller's, where there is one."""


def applies(match: istio.HTTPMatchRequest, caller: Caller, namespace: str) -> bool:
    """Whether the match can hold for this caller; `namespace` is the rule's own."""
    if match.port is not None and match.port != caller.port:
        return False
    if match.gateways and caller.gateways.isdisjoint(gateway_names(match.gateways, namespace)):
        return False
    if caller.gateways != {MESH}:
        return not match.source_labels and not match.source_namespace
    return not match.source_namespace or match.source_namespace == caller.namespace


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as one text, in which each stands between separators that no label may hold."""
    return "".join(f";{key}={value};" for key, value in sorted(labels.items()))


def gateway_names(names: tuple[str, ...], namespace: str) -> frozenset[str]:
    """Gateway references in full; a rule that names none is for the mesh."""
    full = (name if name == MESH or "/" in name else f"{namespace}/{name}" for name in names)
    return frozenset(full) or frozenset({MESH})


def route_match(match: istio.HTTPMatchRequest) -> m.routes.RouteMatch:
    envoy_match = m.routes.RouteMatch()
    _path(envoy_match, match)
    if match.ignore_uri_case:
        envoy_match.case_sensitive.value = False
    for name, pattern in sorted(match.headers.items()):
        envoy_match.headers.append(_header(name.lower(), pattern))
    for name, pattern in sorted(match.without_headers.items()):
        header = _header(name.lower(), pattern)
        header.invert_match = True
        # What is absent does not have the unwanted value.
        header.treat_missing_header_as_empty = header.WhichOneof("header_match_specifier") == "string_match"
        envoy_match.headers.append(header)
    for name, pseudo in (
        (":method", match.method),
        (":authority", match.authority),
        (":scheme", match.scheme),
    ):
        if pseudo is not None:
            envoy_match.headers.append(_header(name, pseudo))
    for name, pattern in sorted(match.query_params.items()):
        envoy_match.query_parameters.append(_query(name, pattern))
    for label in sorted(match.source_labels.items()):
        matcher = m.strings.StringMatcher(contains=labels_text(dict([label])))
        envoy_match.filter_state.append(m.filter_state.FilterStateMatcher(key=LABELS, string_match=matcher))
    if isinstance(match, routing.HTTPMatchRequest) and match.millionths is not None:
        share = m.percent.FractionalPercent(
            numerator=match.millionths, denominator=m.percent.FractionalPercent.MILLION
        )
        envoy_match.runtime_fraction.default_value.CopyFrom(share)
    return envoy_match


def anything() -> m.routes.RouteMatch:
    return m.routes.RouteMatch(prefix="/")


def _path(envoy_match: m.routes.RouteMatch, match: istio.HTTPMatchRequest) -> None:
    uri = match.uri or istio.StringMatch()
    if uri.exact is not None:
        envoy_match.path = uri.exact
    elif uri.regex is not None:
        envoy_match.safe_regex.regex = uri.regex
    else:
        envoy_match.prefix = uri.prefix or "/"


def _header(name: str, pattern: istio.StringMatch) -> m.routes.HeaderMatcher:
    matcher = m.routes.HeaderMatcher(name=name)
    if (text := string(pattern)) is None:
        matcher.present_match = True
    else:
        matcher.string_match.CopyFrom(text)
    return matcher


def _query(name: str, pattern: istio.StringMatch) -> m.routes.QueryParameterMatcher:
    matcher = m.routes.QueryParameterMatcher(name=name)
    if (text := string(pattern)) is None:
        matcher.present_match = True
    else:
        matcher.string_match.CopyFrom(text)
    return matcher


def string(pattern: istio.StringMatch) -> m.strings.StringMatcher | None:
    """The string matcher, or None where being there is all that is asked."""
    if pattern.regex == _PRESENT:
        return None
    if pattern.exact is not None:
        return m.strings.StringMatcher(exact=pattern.exact)
    if pattern.regex is not None:
        return m.strings.StringMatcher(safe_regex=m.regex.RegexMatcher(regex=pattern.regex))
    if pattern.prefix:
        return m.strings.StringMatcher(prefix=pattern.prefix)
    return None

"""A VirtualService's match as an Envoy route match, and what of it the control plane settles itself.

Port, gateways and source namespace are known for each route table, so they are decided here
(`applies`) and never matched at run time. Source labels are matched by Envoy against what the caller's
listener says of its pod: so a rule that looks at labels changes no listener, and no connection ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ondol.mesh.model import istio
from ondol.mesh.translate import messages as m

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
    made = m.routes.RouteMatch()
    _path(made, match)
    if match.ignore_uri_case:
        made.case_sensitive.value = False
    for name, wanted in sorted(match.headers.items()):
        made.headers.append(_header(name.lower(), wanted))
    for name, unwanted in sorted(match.without_headers.items()):
        header = _header(name.lower(), unwanted)
        header.invert_match = True
        # What is absent does not have the unwanted value.
        header.treat_missing_header_as_empty = header.WhichOneof("header_match_specifier") == "string_match"
        made.headers.append(header)
    for name, pseudo in (
        (":method", match.method),
        (":authority", match.authority),
        (":scheme", match.scheme),
    ):
        if pseudo is not None:
            made.headers.append(_header(name, pseudo))
    for name, wanted in sorted(match.query_params.items()):
        made.query_parameters.append(_query(name, wanted))
    for label in sorted(match.source_labels.items()):
        held = m.strings.StringMatcher(contains=labels_text(dict([label])))
        made.filter_state.append(m.filter_state.FilterStateMatcher(key=LABELS, string_match=held))
    return made


def anything() -> m.routes.RouteMatch:
    return m.routes.RouteMatch(prefix="/")


def _path(made: m.routes.RouteMatch, match: istio.HTTPMatchRequest) -> None:
    uri = match.uri or istio.StringMatch()
    if uri.exact is not None:
        made.path = uri.exact
    elif uri.regex is not None:
        made.safe_regex.regex = uri.regex
    else:
        made.prefix = uri.prefix or "/"


def _header(name: str, wanted: istio.StringMatch) -> m.routes.HeaderMatcher:
    made = m.routes.HeaderMatcher(name=name)
    if (text := string(wanted)) is None:
        made.present_match = True
    else:
        made.string_match.CopyFrom(text)
    return made


def _query(name: str, wanted: istio.StringMatch) -> m.routes.QueryParameterMatcher:
    made = m.routes.QueryParameterMatcher(name=name)
    if (text := string(wanted)) is None:
        made.present_match = True
    else:
        made.string_match.CopyFrom(text)
    return made


def string(wanted: istio.StringMatch) -> m.strings.StringMatcher | None:
    """The string matcher, or None where being there is all that is asked."""
    if wanted.regex == _PRESENT:
        return None
    if wanted.exact is not None:
        return m.strings.StringMatcher(exact=wanted.exact)
    if wanted.regex is not None:
        return m.strings.StringMatcher(safe_regex=m.regex.RegexMatcher(regex=wanted.regex))
    if wanted.prefix:
        return m.strings.StringMatcher(prefix=wanted.prefix)
    return None

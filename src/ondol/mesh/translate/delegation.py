"""VirtualServices that leave routes to others: what a delegate says stands in the place of the root's route.

Pure. A delegate has no hosts, so it governs nothing by itself; who names it in a route consents to what it
says, and its `exportTo` says to whom it lends itself. What it refers to is completed as its own namespace
sees it, before it is joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from ondol.mesh.model import istio
from ondol.mesh.translate import reach
from ondol.mesh.translate.registry import Registry, Rule, VirtualService
from ondol.mesh.xds.types import Origin

_KIND: Final = "VirtualService"
_INHERITED: Final = (
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirror_percent",
    "mirror_percentage",
    "cors_policy",
    "headers",
)
"""What a delegate's route has of the root's where it says nothing itself; the whole field each."""
_TEXTS: Final = ("uri", "scheme", "method", "authority")
_MAPS: Final = ("headers", "without_headers", "query_params")


def join(rules: Mapping[str, Sequence[Rule[Any]]], registry: Registry) -> Mapping[str, Sequence[Rule[Any]]]:
    """The same rules, with each root joined with its delegates; what has no delegates is the same object."""
    listed = rules.get(_KIND, ())
    if not any(route.delegate for rule in listed for route in rule.spec.http):
        return rules
    by_name = {(rule.namespace, rule.origin.name): rule for rule in listed if not rule.spec.hosts}
    return {**rules, _KIND: [_joined(rule, by_name, registry) for rule in listed]}


def delegate(
    root: VirtualService, named: istio.Delegate, delegates: Mapping[tuple[str, str], VirtualService]
) -> VirtualService | None:
    """The VirtualService that a route leaves its requests to, if it lends itself to the root's namespace."""
    other = delegates.get((named.namespace or root.namespace, named.name))
    if other is None or not reach.exported(other.spec.export_to, other.namespace, root.namespace):
        return None
    return other


def _joined(
    root: VirtualService, delegates: Mapping[tuple[str, str], VirtualService], registry: Registry
) -> VirtualService:
    if not any(route.delegate for route in root.spec.http):
        return root
    http: list[istio.HTTPRoute] = []
    sources: list[tuple[str, Origin]] = []
    for index, route in enumerate(root.spec.http):
        own = msgspec.structs.replace(route, name=route.name or f"http-{index}", delegate=None)
        if route.delegate is None:
            http.append(own)
        elif (other := delegate(root, route.delegate, delegates)) is not None:
            for merged in _merged(own, other, registry):
                http.append(merged)
                sources.append((merged.name, other.origin))
            if not sources or sources[-1][1] != other.origin:
                sources.append(("", other.origin))  # all of it conflicts; a new version may not
    spec = msgspec.structs.replace(root.spec, http=tuple(http))
    return replace(root, spec=spec, joined=tuple(sources))


def _merged(root: istio.HTTPRoute, other: VirtualService, registry: Registry) -> Iterator[istio.HTTPRoute]:
    """The delegate's routes under the root's conditions; those that contradict them are left out."""
    for index, route in enumerate(other.spec.http):
        match = matches(root.match, route.match)
        if match is not None and route.delegate is None:
            inherited = {name: getattr(root, name) for name in _INHERITED if getattr(route, name) is None}
            if route.mirrors or root.mirrors:
                inherited |= _mirrors(root, route)
            own = msgspec.structs.replace(_completed(route, other.namespace, registry), match=match)
            name = f"{root.name}-{route.name or f'http-{index}'}"
            yield msgspec.structs.replace(own, name=name, **inherited)


def _mirrors(root: istio.HTTPRoute, route: istio.HTTPRoute) -> dict[str, Any]:
    """One's own copies, of either field, are all the copies there are."""
    if route.mirrors:
        return {"mirror": None, "mirror_percent": None, "mirror_percentage": None}
    if route.mirror is not None:
        return {}
    return {"mirrors": root.mirrors}


def matches(
    root: tuple[istio.HTTPMatchRequest, ...], own: tuple[istio.HTTPMatchRequest, ...]
) -> tuple[istio.HTTPMatchRequest, ...] | None:
    """Both conditions as one list of alternatives; None where one is in none of the root's."""
    if not root or not own:
        return root or own
    listed: list[istio.HTTPMatchRequest] = []
    for inner in own:
        within = [_both(outer, inner) for outer in root if not _conflict(outer, inner)]
        if not within:
            return None
        listed += within
    return tuple(listed)


def _both(outer: istio.HTTPMatchRequest, inner: istio.HTTPMatchRequest) -> istio.HTTPMatchRequest:
    fields: dict[str, Any] = {name: getattr(inner, name) or getattr(outer, name) for name in _TEXTS}
    fields |= {name: {**getattr(outer, name), **getattr(inner, name)} for name in _MAPS}
    for name in ("port", "stat_prefix", "source_namespace", "source_labels", "gateways"):
        fields[name] = getattr(inner, name) or getattr(outer, name)
    fields["name"] = "-".join(name for name in (outer.name, inner.name) if name)
    return msgspec.structs.replace(inner, **fields)


def _conflict(outer: istio.HTTPMatchRequest, inner: istio.HTTPMatchRequest) -> bool:
    """Whether the inner condition is not surely a part of the outer one."""
    pairs = [(getattr(outer, name), getattr(inner, name)) for name in _TEXTS]
    for name in _MAPS:
        around = getattr(outer, name)
        pairs += [(around.get(key), value) for key, value in getattr(inner, name).items()]
    other_port = outer.port is not None and inner.port is not None and outer.port != inner.port
    other_case = outer.ignore_uri_case != inner.ignore_uri_case
    return other_port or other_case or any(_is_outside(whole, part) for whole, part in pairs)


def _is_outside(whole: istio.StringMatch | None, part: istio.StringMatch | None) -> bool:
    """As Istio judges: of regular expressions nothing is known but that they are the same."""
    if whole is None or part is None or whole == part:
        return False
    if whole.regex is not None or part.regex is not None:
        return True
    if whole.exact is not None:
        return part.exact != whole.exact
    text = part.prefix if part.prefix is not None else part.exact
    return whole.prefix is not None and not (text or "").startswith(whole.prefix)


def _completed(route: istio.HTTPRoute, namespace: str, registry: Registry) -> istio.HTTPRoute:
    """The route with hosts in full, as the delegate's namespace sees them."""

    def full(destination: istio.Destination) -> istio.Destination:
        host = registry.qualified(destination.host, namespace)
        return msgspec.structs.replace(destination, host=host)

    def each(listed: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(msgspec.structs.replace(item, destination=full(item.destination)) for item in listed)

    mirror = full(route.mirror) if route.mirror is not None else None
    return msgspec.structs.replace(route, route=each(route.route), mirrors=each(route.mirrors), mirror=mirror)

"""Routes of a VirtualService that nothing reaches: the first that matches has the call.

IST0131 is a match of which earlier ones leave nothing, IST0130 a route that has no other. What is told is
certain: where two matches only overlap, nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from ondol.mesh.kinds.kind import Finding
from ondol.mesh.model import istio
from ondol.mesh.translate.registry import VirtualService

_ANYTHING: Final = istio.HTTPMatchRequest()
_OfBytes: TypeAlias = istio.L4MatchAttributes | istio.TLSMatchAttributes


def findings(rule: VirtualService) -> Iterator[Finding]:
    yield from _of_requests(rule)
    yield from _of_connections(rule, "tcp", [route.match for route in rule.spec.tcp])
    yield from _of_connections(rule, "tls", [route.match for route in rule.spec.tls])


def _of_requests(rule: VirtualService) -> Iterator[Finding]:
    seen: list[tuple[int, istio.HTTPMatchRequest]] = []
    for index, route in enumerate(rule.spec.http):
        used = 0
        for number, match in enumerate(route.match):
            earlier = next((of for of, each in seen if _covers(each, match)), None)
            if earlier is not None:
                used += 1
                text = f"spec.http[{index}].match[{number}]: http[{earlier}] takes every request of it"
                yield Finding(rule.origin, "IST0131", text)
            if route.delegate is None:  # what it is left to may match less
                seen.append((index, match))
        if used and used == len(route.match):
            text = f"spec.http[{index}]: earlier routes take every request that it matches"
            yield Finding(rule.origin, "IST0130", text)
        if index + 1 < len(rule.spec.http) and _takes_all(route):
            text = f"spec.http[{index}] takes every request: no route after it is reached"
            yield Finding(rule.origin, "IST0130", text)
            return


def _takes_all(route: istio.HTTPRoute) -> bool:
    if route.delegate is not None:
        return False
    return not route.match or any(_bare(match) == _ANYTHING for match in route.match)


def _bare(match: istio.HTTPMatchRequest) -> istio.HTTPMatchRequest:
    """The match without what does not choose: its name, and a path that every path begins with."""
    uri = match.uri
    every = uri is not None and (uri.prefix in ("", "/") or uri.regex == ".*")
    return msgspec.structs.replace(
        match, name="", stat_prefix="", ignore_uri_case=False, uri=None if every else uri
    )


def _covers(earlier: istio.HTTPMatchRequest, later: istio.HTTPMatchRequest) -> bool:
    """Whether nothing is left of `later`: it asks for all that the earlier one asks for, or more.

    What takes every request is not among it: of that the route says it once.
    """
    first, second = _bare(earlier), _bare(later)
    folds = earlier.ignore_uri_case
    if second.uri is not None and first.uri is not None and later.ignore_uri_case and not folds:
        return False
    if first == second:
        return True
    if first == _ANYTHING:
        return False
    return _covers_path(first.uri, second.uri, folds=folds) and all(
        not (asked := getattr(first, name)) or asked == getattr(second, name)
        for name in istio.HTTPMatchRequest.__struct_fields__
        if name not in ("uri", "name", "stat_prefix", "ignore_uri_case")
    )


def _covers_path(first: istio.StringMatch | None, second: istio.StringMatch | None, *, folds: bool) -> bool:
    if first is None or first == second:
        return True
    if first.prefix is None or second is None:
        return False
    path = second.prefix if second.prefix is not None else second.exact
    if path is None:
        return False
    return path.lower().startswith(first.prefix.lower()) if folds else path.startswith(first.prefix)


def _of_connections(rule: VirtualService, of: str, routes: Sequence[Sequence[_OfBytes]]) -> Iterator[Finding]:
    seen: dict[int, Sequence[_OfBytes]] = {}
    for index, matches in enumerate(routes):
        used = 0
        for number, match in enumerate(matches):
            earlier = next((place for place, listed in seen.items() if match in listed), None)
            if earlier is not None:
                used += 1
                text = f"spec.{of}[{index}].match[{number}]: {of}[{earlier}] takes every connection of it"
                yield Finding(rule.origin, "IST0131", text)
        if used and used == len(matches):
            text = f"spec.{of}[{index}]: earlier routes take every connection that it matches"
            yield Finding(rule.origin, "IST0130", text)
        if index + 1 < len(routes) and not matches:
            text = f"spec.{of}[{index}] takes every connection: no route after it is reached"
            yield Finding(rule.origin, "IST0130", text)
            return
        seen[index] = matches

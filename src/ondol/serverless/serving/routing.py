"""A Route's targets, and the VirtualService they become, which any Istio-compatible mesh understands."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import cluster, mesh
from ondol.contracts.serving import HTTP_PORT
from ondol.serverless.serving import defaults, rollout, wellknown
from ondol.serverless.serving.documents import child_of, user_port
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.rollout import Rollout

TAG_HEADER: Final = "knative-serving-tag"
"""Chooses a tag at the Route's own name, while the feature `tag-header-based-routing` is on."""
# Until an activator that died is back, about half a second; a pod that only just went is found sooner.
CONNECT_ATTEMPTS: Final = 8
# Who asked, by what name and how, as RFC 7239 has it; the proxy fills in its own values.
FORWARDED: Final = (
    'for="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";host="%REQ(:AUTHORITY)%";proto=%REQ(X-FORWARDED-PROTO)%'
)
RETRIES: Final[Object] = {
    "attempts": CONNECT_ATTEMPTS,
    "retryOn": "connect-failure,refused-stream,reset-before-request",
}
SAFE_METHODS: Final = "GET|HEAD|OPTIONS"
SAFE_RETRIES: Final[Object] = {**RETRIES, "retryOn": f"{RETRIES['retryOn']},reset"}
"""Where the activator stands before every request, an end without an answer is its own: it answers for pods
that fail. What has no effects (RFC 9110, 9.2.1) is then asked again, of the activator that is back."""


@dataclass(frozen=True, slots=True)
class Target:
    """One share of a Route's traffic, resolved to a revision; `percent` of tags alone is 0."""

    revision: str
    percent: int
    tag: str = ""
    latest: bool = False
    timeout_s: int = defaults.TIMEOUT_S
    configuration: str = ""
    """Whose newest revision is meant, if it is."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who is served now: what the status lists, and what each tag's own name leads to."""

    listed: tuple[Target, ...]
    tagged: Mapping[str, tuple[Target, ...]]

    @property
    def shared(self) -> tuple[Target, ...]:
        """Whom the Route's own name leads to."""
        return tuple(target for target in self.listed if target.percent > 0)

    @property
    def revisions(self) -> frozenset[str]:
        tagged = {target.revision for targets in self.tagged.values() for target in targets}
        return frozenset(tagged | {target.revision for target in self.listed})

    @property
    def tags(self) -> list[str]:
        """Longest first: of names by a template, one may end in another."""
        return sorted(self.tagged, key=lambda tag: (-len(tag), tag))


def goal(targets: Sequence[Target]) -> Rollout:
    """Where the roll-out of these targets ends."""
    latest: dict[tuple[str, str], tuple[str, int]] = {}
    for target in targets:
        if not target.configuration:
            continue
        own = ("", target.configuration)
        latest[own] = (target.revision, latest.get(own, ("", 0))[1] + target.percent)
        if target.tag:
            latest[target.tag, target.configuration] = (target.revision, 100)
    return rollout.goal(latest)


def traffic(
    targets: Sequence[Target], state: Rollout, timeout_s: Callable[[str], int] = lambda _: defaults.TIMEOUT_S
) -> Traffic:
    """The targets with each share that moves divided as the roll-out has it now."""
    left = {m.configuration: list(m.shares) for m in state.configurations if not m.tag}
    listed: list[Target] = []
    tagged: dict[str, tuple[Target, ...]] = {}
    for target in targets:
        if target.tag:
            moving = tuple(
                replace(target, revision=s.revision, percent=s.percent, timeout_s=timeout_s(s.revision))
                for s in state.shares(target.configuration, target.tag)
            )
            tagged[target.tag] = moving or (replace(target, percent=100),)
        if target.percent and target.configuration:
            listed += _divided(target, left.get(target.configuration, []), timeout_s)
        elif target.percent or not target.tag:
            listed.append(target)
        else:
            listed += [replace(named, percent=0) for named in tagged[target.tag]]
    return Traffic(tuple(listed), tagged)


def _divided(target: Target, left: list[rollout.Share], timeout_s: Callable[[str], int]) -> Iterator[Target]:
    """As much as the target has of the shares that are left, which are used up."""
    percent = target.percent
    while percent and left:
        share = left.pop(0)
        part = min(percent, share.percent)
        percent -= part
        if share.percent > part:
            left.insert(0, rollout.Share(share.revision, share.percent - part))
        if part:
            yield replace(target, revision=share.revision, percent=part, timeout_s=timeout_s(share.revision))
    if percent:
        yield replace(target, percent=percent)


def is_guarded(revision: Mapping[str, Any]) -> bool:
    """Whether each of its requests goes through the activator, over HTTP/1 and a connection of its own."""
    spec = objects.spec(revision)
    limit_s = int(spec.get("timeoutSeconds") or defaults.TIMEOUT_S)
    shorter = (
        int(spec.get(name) or limit_s) for name in ("responseStartTimeoutSeconds", "idleTimeoutSeconds")
    )
    is_counted = bool(spec.get("containerConcurrency")) or min(shorter) < limit_s
    return is_counted and user_port(spec)[1] == "http1"


def virtual_service(
    route_: Mapping[str, Any],
    traffic_: Traffic,
    naming: Naming,
    *,
    by_header: bool = False,
    state: str = "",
    guarded: Collection[str] = (),
) -> Object:
    """How the mesh splits the Route's requests between revisions, one rule for it and one a tag.

    All of a route's names live in one object and change at once, so a rule says which names it is for:
    between pods all of them, at the ingress only the public one, in whatever case they come. `state` is that
    of a roll-out, which is kept with the weights it led to. `guarded` are the revisions that `is_guarded`.
    """
    child = child_of(route_, "VirtualService", objects.name(route_), mesh.API_VERSION)
    child["metadata"]["labels"] = {wellknown.ROUTE_LABEL: objects.name(route_)}
    if state:
        child["metadata"]["annotations"] = {rollout.ANNOTATION: state}
    namespace, local_only = objects.namespace(route_), naming.is_local(route_)
    rules: list[Object] = []
    hosts: list[str] = []
    for tag in [*traffic_.tags, ""]:  # first match wins: what has no tag takes the names that are left
        shares = traffic_.tagged[tag] if tag else traffic_.shared
        if not shares:
            continue
        own = naming.own_name(route_, tag)
        inside = [
            own + suffix
            for suffix in (f".{namespace}.svc.{cluster.DOMAIN}", f".{namespace}.svc", f".{namespace}")
        ]
        outside = [] if local_only else [naming.public_host(route_, tag)]
        hosts += [*inside, *outside]
        matches: list[Object] = [{"gateways": [mesh.MESH_GATEWAY]}]
        if tag:
            matches[0]["authority"] = _any_of([*inside, *outside, own])
        if outside:
            matches.append({"gateways": [mesh.INGRESS], "authority": _any_of(outside)})
        if by_header and not tag:
            for named in traffic_.tags:
                tagged = traffic_.tagged[named]
                rules += _rules(namespace, tagged, _with_header(matches, named), guarded)
        rules += _rules(namespace, shares, matches, guarded)
    child["spec"] = {
        "hosts": hosts,
        "gateways": [mesh.MESH_GATEWAY] if local_only else [mesh.MESH_GATEWAY, mesh.INGRESS],
        "http": rules,
    }
    return child


def _with_header(matches: Sequence[Object], tag: str) -> list[Object]:
    return [{**match, "headers": {TAG_HEADER: {"exact": tag}}} for match in matches]


def _any_of(names_: Sequence[str]) -> Object:
    """Matches these names in any case (RFC 9110, 4.2.3), with a port or without."""
    escaped = (re.escape(name).replace("\\-", "-") for name in names_)  # a pattern's length is bounded
    return {"regex": f"(?i)(?:{'|'.join(escaped)})(?::[0-9]+)?"}


def _rules(
    namespace: str, shares: Sequence[Target], matches: list[Object], guarded: Collection[str]
) -> Iterator[Object]:
    if {target.revision for target in shares} <= set(guarded):
        safe = [{**match, "method": {"regex": SAFE_METHODS}} for match in matches]
        yield {**_rule(namespace, shares, safe), "retries": SAFE_RETRIES}
    yield _rule(namespace, shares, matches)


def _rule(namespace: str, shares: Sequence[Target], matches: list[Object]) -> Object:
    destinations = [
        {
            "destination": {
                "host": cluster.service_host(t.revision, namespace),
                "port": {"number": HTTP_PORT},
            },
            "weight": t.percent,
        }
        for t in shares
    ]
    return {
        "match": matches,
        "route": destinations,
        "headers": {"request": {"add": {"forwarded": FORWARDED}}},
        # The time until an answer begins: one that is streamed may go on, as with Knative. And one time for
        # all of the shares: a request must not be cut before its own revision would.
        "retries": {**RETRIES, "perTryTimeout": f"{max(t.timeout_s for t in shares)}s"},
    }

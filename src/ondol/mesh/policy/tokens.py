"""RequestAuthentications as Envoy's jwt_authn: which tokens are believed, by whose keys. Pure.

A token that is wrong is refused, one that is missing is not, unless its rule says `presence: REQUIRED`. What
a good one says is in the filter's metadata, where authorization looks. Keys at a URI are fetched by Envoy
itself, kept for minutes and fetched again, at once too after a failure; while there are none, tokens are
refused.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from ondol.mesh.model import istio, security
from ondol.mesh.policy.context import Context
from ondol.mesh.policy.matchers import JWT_AUTHN, PAYLOAD
from ondol.mesh.translate import messages as m
from ondol.mesh.translate import origination
from ondol.mesh.translate.registry import Rule

RequestAuthentication: TypeAlias = Rule[security.RequestAuthenticationSpec]

SPACE_DELIMITED: Final = frozenset({"permission", "scope"})
"""Claims that are lists of words in any case."""
_TIMEOUT_MS: Final = 5_000
_KEPT_MS: Final = 300_000
_AGAIN_MS: Final = 1_000
_CONNECT_MS: Final = 5_000
_PORTS: Final = {"http": 80, "https": 443}


class Server(NamedTuple):
    """Where keys are fetched from."""

    host: str
    port: int
    is_secure: bool

    @property
    def cluster(self) -> str:
        """Its cluster's name, where no Service of the mesh is meant."""
        return f"jwks|{self.port}|{self.host}|{'https' if self.is_secure else 'http'}"


def server(uri: str) -> Server:
    """The server of a URI; `ValueError` where it has none that can be asked."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in _PORTS:
        raise ValueError(f"URI scheme {parts.scheme!r} is not supported")
    if not parts.hostname:
        raise ValueError(f"{uri!r} names no host")
    return Server(parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme == "https")


def rules(objects: Sequence[RequestAuthentication]) -> list[tuple[security.JWTRule, str]]:
    """The rules of all objects with their namespaces, by issuer, so that order is of no consequence."""
    listed = [(rule, each.namespace) for each in objects for rule in each.spec.jwt_rules]
    return sorted(listed, key=lambda pair: pair[0].issuer)


def are_needed(objects: Sequence[RequestAuthentication]) -> bool:
    """Whether applications may count on more than that who has no token has none.

    On a token that must be there, or on headers that only the proxy writes.
    """
    return any(
        rule.presence == "REQUIRED" or rule.output_payload_to_header or rule.output_claim_to_headers
        for rule, _ in rules(objects)
    )


def http_filter(objects: Sequence[RequestAuthentication], context: Context) -> m.hcm.HttpFilter | None:
    """What checks the tokens of requests; None where no rule says anything of any."""
    listed = rules(objects)
    if not listed:
        return None
    config = m.jwt_authn.JwtAuthentication(bypass_cors_preflight=True)
    for index, (rule, namespace) in enumerate(listed):
        config.providers[_name(index)].CopyFrom(_provider(rule, namespace, context))
    every = config.rules.add()
    every.match.prefix = "/"
    every.requires.CopyFrom(_requirement([rule for rule, _ in listed]))
    return m.hcm.HttpFilter(name=JWT_AUTHN, typed_config=m.any_of(config))


def _name(index: int) -> str:
    return f"origins-{index}"


def _provider(rule: security.JWTRule, namespace: str, context: Context) -> m.jwt_authn.JwtProvider:
    claims = sorted(SPACE_DELIMITED.union(rule.space_delimited_claims))
    provider = m.jwt_authn.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward_original_token,
        forward_payload_header=rule.output_payload_to_header,
        payload_in_metadata=PAYLOAD,
        normalize_payload_in_metadata=m.jwt_authn.JwtProvider.NormalizePayload(space_delimited_claims=claims),
        from_headers=[
            m.jwt_authn.JwtHeader(name=each.name, value_prefix=each.prefix) for each in rule.from_headers
        ],
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        claim_to_headers=[
            m.jwt_authn.JwtClaimToHeader(header_name=each.header, claim_name=each.claim)
            for each in rule.output_claim_to_headers
        ],
        clear_route_cache=context.clears_routes,
    )
    if not rule.keys_at:
        provider.local_jwks.inline_string = rule.jwks
        return provider
    wait_ms = _TIMEOUT_MS if rule.timeout is None else istio.milliseconds(rule.timeout, "timeout")
    remote = provider.remote_jwks
    remote.http_uri.uri = rule.keys_at
    remote.http_uri.cluster = _cluster(server(rule.keys_at), namespace, context)
    remote.http_uri.timeout.CopyFrom(m.duration(wait_ms))
    remote.cache_duration.CopyFrom(m.duration(_KEPT_MS))
    # A server of keys that is away must not keep a pod's listener from opening: what needs it waits for it.
    remote.async_fetch.fast_listener = True
    remote.async_fetch.failed_refetch_duration.CopyFrom(m.duration(_AGAIN_MS))
    return provider


def _cluster(at: Server, namespace: str, context: Context) -> str:
    return context.find(at.host, at.port, namespace) or at.cluster


def _requirement(listed: Sequence[security.JWTRule]) -> m.jwt_authn.JwtRequirement:
    """Any good token; else, of each rule a good one or none. What is REQUIRED must all be there."""
    requirement = m.jwt_authn.JwtRequirement
    names = [requirement(provider_name=_name(index)) for index in range(len(listed))]
    missing = requirement()
    missing.allow_missing.SetInParent()
    required = [name for name, rule in zip(names, listed, strict=True) if rule.presence == "REQUIRED"]
    if required:
        # Rules may look in one place, where a token of one is none of the other.
        whatever = requirement()
        whatever.allow_missing_or_failed.SetInParent()
        rest = [name for name in names if name not in required]
        return _all([*required, *(_any([name, whatever]) for name in rest)])
    each = [_any([name, missing]) for name in names]
    return each[0] if len(each) == 1 else _any([*names, _all(each)])


def _any(members: Sequence[m.jwt_authn.JwtRequirement]) -> m.jwt_authn.JwtRequirement:
    return m.jwt_authn.JwtRequirement(requires_any=m.jwt_authn.JwtRequirementOrList(requirements=members))


def _all(members: Sequence[m.jwt_authn.JwtRequirement]) -> m.jwt_authn.JwtRequirement:
    if len(members) == 1:
        return members[0]
    return m.jwt_authn.JwtRequirement(requires_all=m.jwt_authn.JwtRequirementAndList(requirements=members))


def key_clusters(objects: Sequence[RequestAuthentication], context: Context) -> Iterator[m.cluster.Cluster]:
    """The clusters of servers of keys that are no Services of the mesh, each once."""
    servers: Mapping[Server, None] = dict.fromkeys(
        at
        for rule, namespace in rules(objects)
        if rule.keys_at
        for at in (server(rule.keys_at),)
        if context.find(at.host, at.port, namespace) is None
    )
    for at in servers:
        cluster = m.cluster.Cluster(
            name=at.cluster,
            type=m.cluster.Cluster.STRICT_DNS,
            connect_timeout=m.duration(_CONNECT_MS),
            dns_lookup_family=m.cluster.Cluster.V4_PREFERRED,
        )
        cluster.load_assignment.cluster_name = at.cluster
        place = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        place.address.CopyFrom(m.socket(at.host, at.port))
        if at.is_secure:
            cluster.transport_socket.CopyFrom(origination.verified(at.host))
        yield cluster

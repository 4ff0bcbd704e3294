"""Whether a described call is let in at a workload, and by which object: what Envoy decides, in Python.

Pure. Tested against Envoy with the filters that are made of the same value. What an external provider would
answer nobody knows here: it is named instead.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ondol.base import regexp
from ondol.mesh.model import security
from ondol.mesh.model.mesh_options import HttpServer
from ondol.mesh.policy import attributes, authorization, hardening, matchers, rbac, tokens
from ondol.mesh.policy.attributes import OF_HTTP, Attribute, Clause, Test
from ondol.mesh.policy.authorization import AuthorizationPolicy
from ondol.mesh.policy.context import Context
from ondol.mesh.policy.peers import Mode
from ondol.mesh.policy.workload import WorkloadPolicy
from ondol.mesh.translate import messages as m
from ondol.mesh.xds.types import Origin


@dataclass(frozen=True, slots=True)
class Call:
    """A connection to a workload and, if it is HTTP, the request on it."""

    port: int = 80
    """The pod's own."""
    principal: str = ""
    """`<trust domain>/ns/<namespace>/sa/<account>` by the caller's certificate; empty without mutual TLS."""
    source_ip: str = "127.0.0.1"
    remote_ip: str = ""
    """Whom proxies before say they were called by; the source if empty."""
    destination_ip: str = "127.0.0.1"
    sni: str = ""
    is_http: bool = True
    is_unread: bool = False
    """Not HTTP as far as its first bytes tell, on a port of which nothing is declared."""
    method: str = "GET"
    host: str = "localhost"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, Any] | None = None
    """Of its token, which is signed by a key of its issuer; None without one."""
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What other filters of the proxy noted, by filter."""


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str
    """In words; empty where nothing is asked for."""
    object: Origin | None = None
    """Which decides, if one does."""
    asks: str = ""
    """The provider that must agree, too."""
    notes: tuple[str, ...] = ()
    """What objects on trial would have decided, and what is only logged."""


def decide(policy: WorkloadPolicy, call: Call, context: Context | None = None) -> Decision:
    """Whether the call is let in; the context tells whether providers can be asked."""
    if not call.principal and policy.peers.mode(call.port) is Mode.STRICT:
        reason = f"port {call.port} takes mutual TLS only, and the call has none"
        return Decision(False, reason, policy.layers.rules[-1].origin)
    if call.is_http:
        path = hardening.path(call.path, hardening.reading(policy))
        if path is None:
            return Decision(False, f"the path {call.path!r} is not taken as it is written")
        if policy.looks_at_paths and regexp.compiled(rbac.DOTS_WITH_PARAMETERS).fullmatch(path):
            return Decision(False, f"the path {call.path!r} may be read as another")
        refused = _refused_token(policy, call)
        if refused is not None:
            return refused
        call = _read(policy, call, path)
    elif call.is_unread and tokens.are_needed(policy.authentications):
        by = next(each.origin for each in policy.authentications if each.spec.jwt_rules)
        return Decision(False, "a connection that is not HTTP has no token that could be looked at", by)
    return _Judge(policy, call, context).decide()


def _read(policy: WorkloadPolicy, call: Call, path: str) -> Call:
    """The call as rules see it: claims only of a token that a rule asked for."""
    headers = {name.lower(): value for name, value in call.headers.items()}
    host, colon, port = call.host.rpartition(":") if matchers.has_port(call.host) else (call.host, "", "")
    rule = _rule_of(policy, call)
    believed = _listed(call.claims or {}, rule) if rule is not None else None
    host = f"{host.removesuffix('.')}{colon}{port}"
    return replace(call, headers=headers, path=path, host=host, claims=believed)


# Tokens


def _listed(claims: Mapping[str, Any], rule: security.JWTRule) -> dict[str, Any]:
    """The claims with those as lists that are words with spaces between."""
    lists = tokens.SPACE_DELIMITED.union(rule.space_delimited_claims)
    return {
        name: value.split(" ") if name in lists and isinstance(value, str) else value
        for name, value in claims.items()
    }


def _rule_of(policy: WorkloadPolicy, call: Call) -> security.JWTRule | None:
    """The rule by which the call's token is good."""
    claims = call.claims
    if claims is None:
        return None
    audiences = claims.get("aud", ())
    audiences = {audiences} if isinstance(audiences, str) else set(audiences)
    for rule, _ in tokens.rules(policy.authentications):
        is_of = not rule.issuer or rule.issuer == claims.get("iss")
        if is_of and (not rule.audiences or not audiences.isdisjoint(rule.audiences)):
            return rule
    return None


def _refused_token(policy: WorkloadPolicy, call: Call) -> Decision | None:
    """Why the call fails for its token, or for having none."""
    listed = tokens.rules(policy.authentications)
    if not listed:
        return None
    by = next((each.origin for each in policy.authentications if each.spec.jwt_rules), None)
    required = [rule for rule, _ in listed if rule.presence == "REQUIRED"]
    rule = _rule_of(policy, call)
    if required and (rule is None or any(each is not rule for each in required)):
        return Decision(False, "a token is required", by)
    if call.claims is not None and rule is None:
        issuer = call.claims.get("iss")
        return Decision(False, f"no rule believes a token of the issuer {issuer} for its audience", by)
    return None


# Rules


class _Judge:
    def __init__(self, policy: WorkloadPolicy, call: Call, context: Context | None) -> None:
        self._policy = policy
        self._call = call
        self._context = context
        self._by_action: dict[str, list[AuthorizationPolicy]] = {}
        for rule in policy.authorizations:
            if not rule.is_dry_run:
                self._by_action.setdefault(rule.spec.action, []).append(rule)

    def decide(self) -> Decision:
        notes = tuple(self._notes())
        asked = ""
        custom = [rule for rule in self._of("CUSTOM") if self._matched(rule) is not None]
        if custom:
            provider = authorization.provider_name(custom[0])
            if problem := self._bad():
                return Decision(False, f"{self._words(custom[0])}: {problem}", custom[0].origin, notes=notes)
            if self._call.is_unread and (unread := next(filter(self._is_of_requests, custom), None)):
                reason = f"{self._words(unread)}: {provider} cannot be asked about it"
                return Decision(False, reason, unread.origin, notes=notes)
            asked = provider
        for rule in self._of("DENY"):
            if self._matched(rule) is not None:
                return Decision(False, self._words(rule), rule.origin, notes=notes)
        allowing = self._of("ALLOW")
        for rule in allowing:
            if self._matched(rule) is not None:
                return Decision(True, self._words(rule), rule.origin, asked, notes)
        if allowing:
            names = ", ".join(f"{rule.namespace}/{rule.origin.name}" for rule in allowing)
            one = allowing[0].origin if len(allowing) == 1 else None
            return Decision(False, f"no rule of the ALLOW policies holds: {names}", one, notes=notes)
        if custom:
            return Decision(
                True, f"{self._words(custom[0])}, if {asked} agrees", custom[0].origin, asked, notes
            )
        return Decision(True, "", notes=notes)

    def _of(self, action: str) -> Sequence[AuthorizationPolicy]:
        return self._by_action.get(action, ())

    def _bad(self) -> str:
        """Why nobody can be asked about what CUSTOM policies match."""
        names = {authorization.provider_name(each) for each in self._of("CUSTOM")}
        if len(names) > 1:
            return authorization.SEVERAL
        provider = self._policy.options.provider(names.pop())
        if self._context is None:
            return provider.problem
        return authorization.problem(provider, self._context)

    def _notes(self) -> Iterable[str]:
        for rule in self._policy.authorizations:
            if (rule.is_dry_run or rule.spec.action == "AUDIT") and self._matched(rule) is not None:
                what = "holds, and is only tried" if rule.is_dry_run else "holds, and is only logged"
                yield f"{self._words(rule)} {what}"

    def _words(self, rule: AuthorizationPolicy) -> str:
        index = self._matched(rule)
        return f"{rule.spec.action} {rule.namespace}/{rule.origin.name}, rule {index}"

    def _matched(self, rule: AuthorizationPolicy) -> int | None:
        """The number of the first rule that holds."""
        is_allow = rule.spec.action == "ALLOW"
        is_custom = rule.spec.action == "CUSTOM" and not self._call.is_http
        if is_custom and not self._call.is_unread and self._is_of_http_only(rule):
            return None
        for index, each in enumerate(rule.spec.rules):
            clause = attributes.clause(each, rule.namespace, self._policy.options)
            if holds(clause, self._call, is_allow=is_allow):
                return index
        return None

    def _is_of_requests(self, rule: AuthorizationPolicy) -> bool:
        """Whether a CUSTOM policy that holds for a connection is for requests."""
        clauses = (attributes.clause(each, rule.namespace, self._policy.options) for each in rule.spec.rules)
        asked = (each for each in clauses if holds(each, self._call, is_allow=False))
        return self._is_of_http_only(rule) or any(each.is_of_requests for each in asked)

    def _is_of_http_only(self, rule: AuthorizationPolicy) -> bool:
        """Whether its provider can be asked, and about HTTP alone."""
        provider = self._policy.options.provider(authorization.provider_name(rule))
        is_http = isinstance(provider.server, HttpServer)
        return is_http and not self._bad()


def holds(clause: Clause, call: Call, *, is_allow: bool) -> bool:
    """Whether a rule holds for a call as it was read."""
    if not call.is_http and is_allow and clause.is_of_requests:
        return False
    return all(
        any(all(_passes(test, call) for test in tests) for tests in side)
        for side in (clause.sources, clause.operations)
    )


def _passes(test: Test, call: Call) -> bool:
    if test.attribute in OF_HTTP and not call.is_http:
        return True
    if test.values and not _is_one(test, test.values, call):
        return False
    return not (test.not_values and _is_one(test, test.not_values, call))


_OF_CALLER: Final = {
    Attribute.PRINCIPAL: matchers.principal,
    Attribute.NAMESPACE: matchers.namespace,
    Attribute.SERVICE_ACCOUNT: matchers.service_account,
    Attribute.TRUST_DOMAIN: matchers.trust_domain,
}


def _is_one(test: Test, values: Iterable[str], call: Call) -> bool:
    """Whether the attribute is one of the values."""
    make = _OF_CALLER.get(test.attribute)
    if make is not None:
        uri = f"{matchers.SPIFFE}{call.principal}"
        return bool(call.principal) and any(text(make(value), uri) for value in values)
    match test.attribute:
        case Attribute.SOURCE_IP:
            return _in(call.source_ip, values)
        case Attribute.REMOTE_IP:
            return _in(call.remote_ip or call.source_ip, values)
        case Attribute.DESTINATION_IP:
            return _in(call.destination_ip, values)
        case Attribute.DESTINATION_PORT:
            return any(int(value) == call.port for value in values)
        case Attribute.SNI:
            return any(text(matchers.string(value), call.sni) for value in values)
        case Attribute.METADATA:
            return _is_noted(call.metadata.get(test.names[0], {}).get(test.names[1]), values)
    return _of_request(test, values, call)


def _of_request(test: Test, values: Iterable[str], call: Call) -> bool:
    match test.attribute:
        case Attribute.HOST:
            headers = [each for value in values for each in matchers.hosts(value)]
            return any(_header(each, call.host) for each in headers)
        case Attribute.METHOD:
            return any(_header(matchers.header(":method", value), call.method) for value in values)
        case Attribute.PATH:
            return any(_path(value, call.path) for value in values)
        case Attribute.HEADERS:
            present = call.headers.get(test.names[0].lower())
            return any(_header(matchers.header(test.names[0], value), present) for value in values)
        case Attribute.REQUEST_PRINCIPAL:
            return any(_of_token(value, call.claims or {}) for value in values)
        case Attribute.AUDIENCES:
            return _is_claimed((call.claims or {}).get("aud"), values)
        case Attribute.PRESENTER:
            return _is_claimed((call.claims or {}).get("azp"), values)
    inner: Any = call.claims or {}
    for name in test.names:
        inner = inner.get(name) if isinstance(inner, Mapping) else None
    return _is_claimed(inner, values)


def _of_token(value: str, claims: Mapping[str, Any]) -> bool:
    issuer, subject = matchers.request_principal(value)
    iss, sub = claims.get("iss"), claims.get("sub")
    return isinstance(iss, str) and isinstance(sub, str) and text(issuer, iss) and text(subject, sub)


def _is_claimed(claim: Any, values: Iterable[str]) -> bool:
    words = claim if isinstance(claim, list | tuple) else [claim]
    return any(
        text(matchers.string(value), word) for value in values for word in words if isinstance(word, str)
    )


def _is_noted(noted: Any, values: Iterable[str]) -> bool:
    for value in values:
        is_list = value.startswith("[") and value.endswith("]")
        words = noted if isinstance(noted, list | tuple) and is_list else [] if is_list else [noted]
        matcher = matchers.string(value.strip("[]") if is_list else value)
        if any(isinstance(word, str) and text(matcher, word) for word in words):
            return True
    return False


def _in(address: str, values: Iterable[str]) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(value, strict=False) for value in values)


def _header(matcher: m.routes.HeaderMatcher, present: str | None) -> bool:
    if matcher.WhichOneof("header_match_specifier") == "present_match":
        return present is not None
    return present is not None and text(matcher.string_match, present)


def text(matcher: m.strings.StringMatcher, value: str) -> bool:
    """Whether Envoy's matcher of words takes the value."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return regexp.compiled(matcher.safe_regex.regex).fullmatch(value)
    expected = str(getattr(matcher, kind or "exact"))
    if matcher.ignore_case:
        expected, value = expected.lower(), value.lower()
    match kind:
        case "prefix":
            return value.startswith(expected)
        case "suffix":
            return value.endswith(expected)
        case "contains":
            return expected in value
    return value == expected


def _path(pattern: str, path: str) -> bool:
    if not attributes.is_template(pattern):
        return text(matchers.string(pattern), path)
    return regexp.compiled(_template_pattern(pattern)).fullmatch(path)


def _template_pattern(pattern: str) -> str:
    """A template as Envoy reads it: `{*}` is one segment that is not empty, `{**}` any text."""
    parts = attributes.template(pattern).split("/")
    return "/".join({"*": "[^/]+", "**": ".*"}.get(part, matchers.quoted(part)) for part in parts)

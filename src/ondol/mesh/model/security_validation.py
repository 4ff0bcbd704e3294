"""Validation of Istio's security kinds beyond the schema, by the rules of Istio's own."""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ondol.mesh.model import security, syntax
from ondol.mesh.model.validation import Problem, Subject

_UNSUPPORTED: Final = "Unsupported"
_GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
_TARGETS: Final = (("", "Service"), ("core", "Service"), (_GATEWAY_GROUP, "Gateway"))
_CLASS: Final = (_GATEWAY_GROUP, "GatewayClass")
_ENTRY: Final = ("networking.istio.io", "ServiceEntry")
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")
_PORT_MAX: Final = 65535
_BRACKETED: Final = re.compile(r"[^\[]+\[.+\]")
_MEANINGLESS: Final = (
    "{action} action without `rules` is meaningless as it will never be triggered, "
    "add an empty rule `{{}}` if you want it be triggered for every request"
)
_REPLACED: Final = {
    "destination.namespace": "attribute destination.namespace is replaced by the metadata.namespace",
    "destination.name": "deprecated attribute destination.name: only supported in v1alpha1",
    "destination.user": "deprecated attribute destination.user: only supported in v1alpha1",
}


def authorization_policy(spec: security.AuthorizationPolicySpec, _subject: Subject) -> Iterator[Problem]:
    yield from attached(spec)
    yield from map(Problem, _action(spec))
    for index, rule in enumerate(spec.rules):
        for text in _rule(rule):
            yield Problem(f"spec.rules[{index}]: {text}")
        if spec.action == "CUSTOM":
            for text in _of_custom(rule):
                yield Problem(f"spec.rules[{index}]: {text} is currently not supported with CUSTOM action")


def request_authentication(spec: security.RequestAuthenticationSpec, _subject: Subject) -> Iterator[Problem]:
    yield from attached(spec)
    for index, rule in enumerate(spec.jwt_rules):
        for text in _jwt_rule(rule):
            yield Problem(f"spec.jwtRules[{index}]: {text}")
        if not rule.keys_at and not rule.jwks:
            text = "keys are not looked for at the issuer: one of jwksUri and jwks must be given"
            yield Problem(f"spec.jwtRules[{index}]: {text}", _UNSUPPORTED)


def peer_authentication(spec: security.PeerAuthenticationSpec, _subject: Subject) -> Iterator[Problem]:
    yield from map(Problem, _selector(spec.selector))
    ports = spec.port_level_mtls
    if ports is None:
        return
    if not spec.labels:
        yield Problem("mesh/namespace peer authentication cannot have port level mTLS: it needs a selector")
    if not ports:
        yield Problem("port level mTLS, if defined, must have at least one element")
    for port in ports:
        if not _is_port(port) or int(port) == 0:
            yield Problem(f"spec.portLevelMtls: port must be in range 1..65535, not {port}")


# What an object is for


def attached(spec: security.Attached) -> Iterator[Problem]:
    """What is wrong with the selector or the targets of an object."""
    chosen = (spec.selector is not None, spec.target_ref is not None, bool(spec.target_refs))
    if sum(chosen) > 1:
        yield Problem("only one of targetRefs or selector can be set")
    yield from map(Problem, _selector(spec.selector))
    for target in spec.targets:
        which = (target.group, target.kind)
        if target.namespace:
            yield Problem("targetRef namespace must not be set; cross namespace referencing is not supported")
        if which == _ENTRY:
            yield Problem("targetRef to a ServiceEntry is not supported: there are none", _UNSUPPORTED)
        elif which not in (*_TARGETS, _CLASS):
            yield Problem(
                f"targetRef must be to one of Service, Gateway.{_GATEWAY_GROUP} and "
                f"GatewayClass.{_GATEWAY_GROUP} but was {target.group}/{target.kind}"
            )


def _selector(selector: security.WorkloadSelector | None) -> Iterator[str]:
    for key, value in (selector.match_labels if selector is not None else {}).items():
        if not key:
            yield f'spec.selector: empty key is not supported in selector: "{key}={value}"'
        if "*" in key or "*" in value:
            yield f'spec.selector: wildcard is not supported in selector: "{key}={value}"'


# AuthorizationPolicy


def _action(spec: security.AuthorizationPolicySpec) -> Iterator[str]:
    if spec.action in ("CUSTOM", "DENY") and not spec.rules:
        yield _MEANINGLESS.format(action=spec.action)
    if spec.action == "CUSTOM" and (spec.provider is None or not spec.provider.name):
        yield "`provider.name` must not be empty"
    if spec.action != "CUSTOM" and spec.provider is not None:
        yield f"`provider` must not be with non CUSTOM action, found {spec.action}"


def _rule(rule: security.AuthorizationRule) -> Iterator[str]:
    if rule.from_ == ():
        yield "`from` must not be empty"
    if rule.to == ():
        yield "`to` must not be empty"
    for each in rule.from_ or ():
        yield from _source(each.source)
    for target in rule.to or ():
        yield from _operation(target.operation)
    for condition in rule.when:
        yield from _condition(condition)


def _source(source: security.Source | None) -> Iterator[str]:
    if source is None:
        yield "`from.source` must not be nil"
        return
    if source == security.Source():
        yield "`from.source` must not be empty"
    named = source.principals + source.not_principals + source.namespaces + source.not_namespaces
    if named and (source.service_accounts or source.not_service_accounts):
        yield "cannot set serviceAccounts with namespaces or principals"
    for field, value in _fields(source):
        yield from _empty(field, value)
    for blocks in (
        source.ip_blocks,
        source.not_ip_blocks,
        source.remote_ip_blocks,
        source.not_remote_ip_blocks,
    ):
        yield from _addresses(blocks)
    for accounts in (source.service_accounts, source.not_service_accounts):
        yield from _accounts(accounts)
    for domains in (source.trust_domains, source.not_trust_domains):
        yield from _trust_domains(domains)


def _operation(operation: security.Operation | None) -> Iterator[str]:
    if operation is None:
        yield "`to.operation` must not be nil"
        return
    if operation == security.Operation():
        yield "`to.operation` must not be empty"
    for field, value in _fields(operation):
        yield from _empty(field, value)
    yield from _ports((*operation.ports, *operation.not_ports))
    for paths in (operation.paths, operation.not_paths):
        for path in paths:
            if problem := path_template(path):
                yield problem


def _fields(struct: security.Source | security.Operation) -> Iterator[tuple[str, tuple[str, ...]]]:
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    return ((field, getattr(struct, name)) for name, field in names)


def _empty(field: str, values: Iterable[str]) -> Iterator[str]:
    if any(not value for value in values):
        yield f"empty value not allowed, found in {field}"


def _addresses(blocks: Iterable[str]) -> Iterator[str]:
    for block in blocks:
        try:
            ipaddress.ip_network(block, strict=False)
        except ValueError:
            kind = "CIDR range" if "/" in block else "IP address"
            yield f"bad {kind} ({block})"


def _ports(ports: Iterable[str]) -> Iterator[str]:
    yield from (f"bad port ({port})" for port in ports if not _is_port(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _PORT_MAX


def _accounts(accounts: Iterable[str]) -> Iterator[str]:
    for account in accounts:
        if "*" in account:
            yield f"wildcard not allowed, found in serviceAccounts: {account!r}"
        parts = account.split("/")
        if len(parts) > len(("namespace", "name")) or not all(parts):
            yield f"expected format 'serviceAccount' or 'namespace/serviceAccount', found {account!r}"


def _trust_domains(domains: Iterable[str]) -> Iterator[str]:
    for domain in domains:
        yield from _wildcard("trustDomains", domain)
        if "/" in domain:
            yield f"trust domain must not contain '/', found {domain!r}"


def _wildcard(field: str, value: str) -> Iterator[str]:
    if value.count("*") > 1:
        yield f"at most one wildcard is allowed, found in {field}: {value!r}"
    elif "*" in value[1:-1]:
        yield f"wildcard is only allowed at the start or end, found in {field}: {value!r}"


def path_template(path: str) -> str:
    """What is wrong with a path that may be a template, or nothing."""
    is_template = "{*}" in path or "{**}" in path
    is_last = False
    for segment in path.strip("/").split("/"):
        if segment in ("{*}", "{**}"):
            if is_last:
                return f"invalid or unsupported path {path}: {{**}} is not the last operator"
            is_last = segment == "{**}"
        elif "{" in segment or "}" in segment:
            return (
                f"invalid or unsupported path {path}: contains '{{' or '}}' beyond a supported path template"
            )
        elif is_template and _SEGMENT.fullmatch(segment) is None:
            return (
                f"invalid or unsupported path {path}: contains segment {segment} with invalid string literal"
            )
    return ""


_CHECKS: Final[dict[str, Callable[[Iterable[str]], Iterator[str]]]] = {
    "source.ip": _addresses,
    "remote.ip": _addresses,
    "destination.ip": _addresses,
    "destination.port": _ports,
    "source.serviceAccount": _accounts,
    "source.trustDomain": _trust_domains,
}
_FREE: Final = (
    "source.namespace",
    "source.principal",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "connection.sni",
)
_OF_CALLER: Final = (
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
)
_IN_BRACKETS: Final = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")


def _condition(condition: security.Condition) -> Iterator[str]:
    key = condition.key
    if not key:
        yield "`key` must not be empty"
    elif not condition.values and not condition.not_values:
        yield f"at least one of `values` or `notValues` must be set for key {key}"
    else:
        for field, values in (("value", condition.values), ("notValue", condition.not_values)):
            for problem in _values(key, values):
                yield f"invalid `{field}` for `key` {key}: {problem}"


def _values(key: str, values: tuple[str, ...]) -> Iterator[str]:
    yield from _empty(key, values)
    if key in _CHECKS:
        yield from _CHECKS[key](values)
    elif key.startswith(_IN_BRACKETS):
        if _BRACKETED.fullmatch(key) is None:
            yield f"bad key ({key}): should have format a[b]"
    elif key.startswith("destination.labels"):
        yield f"attribute {key} is replaced by the workload selector"
    elif key not in _FREE:
        yield _REPLACED.get(key, f"unknown attribute: {key}")


def _of_custom(rule: security.AuthorizationRule) -> Iterator[str]:
    """What a rule looks at that is not known yet when a provider is asked."""
    for each in rule.from_ or ():
        for field, values in _fields(each.source or security.Source()):
            if values and "ipblocks" not in field.lower():
                yield f"from.source.{field}"
    for condition in rule.when:
        key = condition.key
        if key in _OF_CALLER or key.startswith("request.auth."):
            yield key


# RequestAuthentication


def _jwt_rule(rule: security.JWTRule) -> Iterator[str]:
    if not rule.issuer and not rule.keys_at:
        yield "issuer or jwksUri must be non-empty string"
    if sum(map(bool, (rule.jwks_uri, rule.former_jwks_uri, rule.jwks))) > 1:
        yield "only one of jwks or jwksUri can be set"
    if rule.keys_at:
        yield from _keys_uri(rule.keys_at)
    if rule.jwks and (problem := _keys(rule.jwks)):
        yield f"jwks parse error: {problem}"
    if rule.timeout is not None and (problem := syntax.duration(rule.timeout)):
        yield f"timeout: {problem}"
    for name in (*(each.name for each in rule.from_headers), rule.output_payload_to_header):
        if name and (problem := syntax.matched_header(name)):
            yield problem


def _keys_uri(uri: str) -> Iterator[str]:
    try:
        parts = urllib.parse.urlsplit(uri)
        port = parts.port
    except ValueError as error:
        yield f"jwksUri: {error}"
        return
    if parts.scheme not in ("http", "https"):
        yield f"jwksUri: URI scheme {parts.scheme!r} is not supported"
    elif not parts.hostname or port == 0:
        yield f"jwksUri: {uri!r} names no host"


def _keys(text: str) -> str:
    """What is wrong with a set of keys, or nothing."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        return str(error)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys:
        return "it has no keys"
    if not all(isinstance(key, dict) and isinstance(key.get("kty"), str) for key in keys):
        return "a key has no kty"
    return ""


def has_private_keys(text: str) -> bool:
    """Whether a sound set of keys holds what should be its owner's alone."""
    return any("d" in key or key.get("kty") == "oct" for key in json.loads(text)["keys"])

"""What a rule of an AuthorizationPolicy asks for, as lists of tests: one form for Envoy and for `decide`.

A rule holds for a call when all tests of one of its `sources` and of one of its `operations` hold. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ondol.mesh.model import security
from ondol.mesh.model.mesh_options import MeshOptions


class Attribute(StrEnum):
    """What a test looks at. The names are those of conditions, where there are such."""

    PRINCIPAL = "source.principal"
    NAMESPACE = "source.namespace"
    SERVICE_ACCOUNT = "source.serviceAccount"
    TRUST_DOMAIN = "source.trustDomain"
    SOURCE_IP = "source.ip"
    REMOTE_IP = "remote.ip"
    REQUEST_PRINCIPAL = "request.auth.principal"
    AUDIENCES = "request.auth.audiences"
    PRESENTER = "request.auth.presenter"
    CLAIMS = "request.auth.claims"
    HEADERS = "request.headers"
    HOST = "host"
    PATH = "path"
    METHOD = "method"
    DESTINATION_IP = "destination.ip"
    DESTINATION_PORT = "destination.port"
    SNI = "connection.sni"
    METADATA = "experimental.envoy.filters."


OF_HTTP: Final = frozenset(
    {
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCES,
        Attribute.PRESENTER,
        Attribute.CLAIMS,
        Attribute.HEADERS,
        Attribute.HOST,
        Attribute.PATH,
        Attribute.METHOD,
    }
)
"""What connections that are not HTTP do not have."""
OF_CALLER: Final = frozenset(
    {Attribute.PRINCIPAL, Attribute.NAMESPACE, Attribute.SERVICE_ACCOUNT, Attribute.TRUST_DOMAIN}
)
"""What only a certificate tells."""
OF_OPERATION: Final = frozenset(
    {
        Attribute.HOST,
        Attribute.PATH,
        Attribute.METHOD,
        Attribute.DESTINATION_IP,
        Attribute.DESTINATION_PORT,
        Attribute.SNI,
        Attribute.METADATA,
    }
)
"""Which side of Envoy's rules a condition is on: permissions, not principals."""
_NAMED: Final = (Attribute.HEADERS, Attribute.CLAIMS, Attribute.METADATA)
_TEMPLATES: Final = ("{*}", "{**}")
_NESTED: Final = re.compile(r"(?:\[[^\[\]]*\])+")
_PARTS_OF_IDENTITY: Final = 5
_CLUSTER_LOCAL: Final = "cluster.local"


@dataclass(frozen=True, slots=True)
class Test:
    """One attribute that must be one of some values, and none of others; names are inside brackets."""

    attribute: Attribute
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Of the header, the claim inside claims, or the filter and the key of its metadata."""


Tests = tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule: alternatives of who calls, and of what is called; none is everybody and everything."""

    sources: tuple[Tests, ...]
    operations: tuple[Tests, ...]

    @property
    def tests(self) -> Iterator[Test]:
        for alternative in (*self.sources, *self.operations):
            yield from alternative

    @property
    def is_of_requests(self) -> bool:
        """Whether it asks for something that connections which are not HTTP do not have."""
        return any(test.attribute in OF_HTTP for test in self.tests)


def attribute(key: str) -> tuple[Attribute, tuple[str, ...]] | None:
    """What a condition's key means, with the names in its brackets; None if it means nothing."""
    for each in _NAMED:
        if key.startswith(each):
            names = _names(each, key)
            return (each, names) if names else None
    try:
        named = Attribute(key)
    except ValueError:
        return None
    return (named, ()) if "." in key else None


def _names(of: Attribute, key: str) -> tuple[str, ...]:
    if of is Attribute.METADATA:
        first, bracket, rest = key.removeprefix("experimental.").partition("[")
        return (first, rest[:-1]) if bracket and rest.endswith("]") and rest != "]" else ()
    bracketed = key.removeprefix(of)
    if len(bracketed) <= len("[]") or bracketed[0] != "[" or bracketed[-1] != "]":
        return ()
    if of is Attribute.CLAIMS and _NESTED.fullmatch(bracketed):
        return tuple(bracketed[1:-1].split("]["))
    return (bracketed[1:-1],)


def clause(rule: security.AuthorizationRule, namespace: str, options: MeshOptions) -> Clause:
    """A sound rule of a policy of that namespace."""
    who: list[Test] = []
    what: list[Test] = []
    for condition in rule.when:
        named = attribute(condition.key)
        if named is not None:
            side = what if named[0] in OF_OPERATION else who
            test = Test(named[0], condition.values, condition.not_values, named[1])
            side.append(_in_full(test, options, namespace))
    sources = [(*_source(each.source, namespace, options), *who) for each in rule.from_ or ()]
    operations = [(*_operation(each.operation), *what) for each in rule.to or ()]
    return Clause(tuple(sources) or (tuple(who),), tuple(operations) or (tuple(what),))


def _source(source: security.Source | None, namespace: str, options: MeshOptions) -> Iterator[Test]:
    each = source or security.Source()
    for attribute_, values, not_values in (
        (Attribute.PRINCIPAL, each.principals, each.not_principals),
        (Attribute.REQUEST_PRINCIPAL, each.request_principals, each.not_request_principals),
        (Attribute.SERVICE_ACCOUNT, each.service_accounts, each.not_service_accounts),
        (Attribute.TRUST_DOMAIN, each.trust_domains, each.not_trust_domains),
        (Attribute.NAMESPACE, each.namespaces, each.not_namespaces),
        (Attribute.REMOTE_IP, each.remote_ip_blocks, each.not_remote_ip_blocks),
        (Attribute.SOURCE_IP, each.ip_blocks, each.not_ip_blocks),
    ):
        if values or not_values:
            yield _in_full(Test(attribute_, values, not_values), options, namespace)


def _operation(operation: security.Operation | None) -> Iterator[Test]:
    each = operation or security.Operation()
    for attribute_, values, not_values in (
        (Attribute.HOST, each.hosts, each.not_hosts),
        (Attribute.METHOD, each.methods, each.not_methods),
        (Attribute.PATH, each.paths, each.not_paths),
        (Attribute.DESTINATION_PORT, each.ports, each.not_ports),
    ):
        if values or not_values:
            yield Test(attribute_, values, not_values)


def _in_full(test: Test, options: MeshOptions, namespace: str) -> Test:
    """A test with names written in full: of trust domains all aliases, of accounts the namespace."""
    of, values, not_values = test.attribute, list(test.values), list(test.not_values)
    if of is Attribute.PRINCIPAL:
        values, not_values = _aliases(values, options), _aliases(not_values, options)
    elif of is Attribute.TRUST_DOMAIN:
        values, not_values = _domains(values, options), _domains(not_values, options)
    elif of is Attribute.SERVICE_ACCOUNT:
        values, not_values = (
            [each if "/" in each else f"{namespace}/{each}" for each in some] for some in (values, not_values)
        )
    return Test(of, tuple(values), tuple(not_values), test.names)


def _aliases(principals: Sequence[str], options: MeshOptions) -> list[str]:
    """The principals in each of the mesh's trust domains, where they name one of them."""
    written: dict[str, None] = {}
    for principal in principals:
        domain, slash, rest = principal.partition("/")
        is_enforced = principal.count("/") == _PARTS_OF_IDENTITY - 1 and domain != "*"
        is_ours = domain == _CLUSTER_LOCAL or any(_is_in(each, domain) for each in options.trust_domains)
        if not (is_enforced and is_ours):
            written[principal] = None
            continue
        for each in options.trust_domains:
            same = domain.startswith("*") and each.endswith(domain[1:])
            written[principal if same else f"{each}{slash}{rest}"] = None
    return list(written)


def _is_in(domain: str, pattern: str) -> bool:
    if pattern.startswith("*"):
        return domain.endswith(pattern[1:])
    return domain.startswith(pattern[:-1]) if pattern.endswith("*") else domain == pattern


def _domains(values: Sequence[str], options: MeshOptions) -> list[str]:
    """One of the mesh's trust domains is all of them."""
    written: dict[str, None] = {}
    for value in values:
        written.update(dict.fromkeys(options.trust_domains if value in options.trust_domains else (value,)))
    return list(written)


def is_template(path: str) -> bool:
    """Whether a path has operators of a template, `{*}` or `{**}`."""
    return any(each in path for each in _TEMPLATES)


def template(path: str) -> str:
    """A path template as Envoy writes it."""
    return path.replace("{**}", "**").replace("{*}", "*")

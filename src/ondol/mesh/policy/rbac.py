"""Rules of AuthorizationPolicies as Envoy's RBAC has them: permissions and principals of named policies.

Of a connection that is not HTTP, an ALLOW rule with a test of HTTP never holds and is left out; of the rules
of other actions such a test is left out, so that they hold for more (as in Istio). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from ondol.mesh.policy import attributes, matchers
from ondol.mesh.policy.attributes import OF_HTTP, Attribute, Clause, Test
from ondol.mesh.translate import messages as m

Permission: TypeAlias = m.rbac.Permission
Principal: TypeAlias = m.rbac.Principal

ACTIONS: Final = {
    "ALLOW": m.rbac.RBAC.ALLOW,
    "DENY": m.rbac.RBAC.DENY,
    "AUDIT": m.rbac.RBAC.LOG,
    "CUSTOM": m.rbac.RBAC.DENY,
}


def never() -> m.rbac.Policy:
    """A policy that holds for nothing: one without rules is still one, and closes."""
    return m.rbac.Policy(
        permissions=[Permission(not_rule=Permission(any=True))],
        principals=[Principal(not_id=Principal(any=True))],
    )


def everything() -> m.rbac.Policy:
    """A policy that holds for all."""
    return m.rbac.Policy(permissions=[Permission(any=True)], principals=[Principal(any=True)])


DOTS_WITH_PARAMETERS: Final = r"(?:.*/)?\.\.?;.*"
"""Paths that lead elsewhere at servers which take what stands behind `;` away, and nowhere at others."""


def ambiguous_paths() -> m.rbac.RBAC:
    """Denies what is `/public/..;/admin` to rules and may be `/admin` to the application."""
    path = m.path_matcher.PathMatcher(path=matchers.pattern(DOTS_WITH_PARAMETERS))
    denied = m.rbac.Policy(permissions=[Permission(url_path=path)], principals=[Principal(any=True)])
    return m.rbac.RBAC(action=m.rbac.RBAC.DENY, policies={"ambiguous-path": denied})


def policy(clause: Clause, *, of_http: bool, is_allow: bool) -> m.rbac.Policy | None:
    """One rule; None where it can never hold."""
    if not of_http and is_allow and clause.is_of_requests:
        return None
    permissions = [_permission(each, of_http=of_http) for each in clause.operations]
    principals = [_principal(each, of_http=of_http) for each in clause.sources]
    return m.rbac.Policy(permissions=permissions, principals=principals)


def _heard(tests: Iterable[Test], *, of_http: bool) -> Iterator[Test]:
    yield from (test for test in tests if of_http or test.attribute not in OF_HTTP)


def _noted(matcher: m.metadata_matcher.MetadataMatcher) -> m.rbac.SourcedMetadata:
    """What filters of the same proxy noted of the request."""
    return m.rbac.SourcedMetadata(metadata_matcher=matcher)


# What is called


def _permission(tests: Iterable[Test], *, of_http: bool) -> m.rbac.Permission:
    required: list[m.rbac.Permission] = []
    for test in _heard(tests, of_http=of_http):
        if test.values:
            required.append(_any_permission(_permissions(test, test.values)))
        if test.not_values:
            required.append(Permission(not_rule=_any_permission(_permissions(test, test.not_values))))
    return Permission(and_rules=Permission.Set(rules=required or [Permission(any=True)]))


def _any_permission(permissions: Sequence[m.rbac.Permission]) -> m.rbac.Permission:
    return Permission(or_rules=Permission.Set(rules=permissions))


def _permissions(test: Test, values: Sequence[str]) -> list[m.rbac.Permission]:
    """One of these holds when the attribute is one of the values."""
    if test.attribute is Attribute.METADATA:
        return [Permission(sourced_metadata=_noted(matchers.of_filter(test.names, values)))]
    make = _PERMISSIONS[test.attribute]
    return [each for value in values for each in make(value)]


def _path(path: str) -> Iterator[m.rbac.Permission]:
    if attributes.is_template(path):
        config = m.uri_template.UriTemplateMatchConfig(path_template=attributes.template(path))
        yield Permission(
            uri_template=m.extension.TypedExtensionConfig(name="uri-template", typed_config=m.any_of(config))
        )
    else:
        yield Permission(url_path=m.path_matcher.PathMatcher(path=matchers.string(path)))


_PERMISSIONS: Final[Mapping[Attribute, Callable[[str], Iterable[m.rbac.Permission]]]] = {
    Attribute.HOST: lambda value: (Permission(header=each) for each in matchers.hosts(value)),
    Attribute.METHOD: lambda value: (Permission(header=matchers.header(":method", value)),),
    Attribute.PATH: _path,
    Attribute.DESTINATION_IP: lambda value: (Permission(destination_ip=m.cidr_range(value)),),
    Attribute.DESTINATION_PORT: lambda value: (Permission(destination_port=int(value)),),
    Attribute.SNI: lambda value: (Permission(requested_server_name=matchers.string(value)),),
}


# Who calls


def _principal(tests: Iterable[Test], *, of_http: bool) -> m.rbac.Principal:
    required: list[m.rbac.Principal] = []
    for test in _heard(tests, of_http=of_http):
        if test.values:
            required.append(_any_principal(_principals(test, test.values)))
        if test.not_values:
            required.append(Principal(not_id=_any_principal(_principals(test, test.not_values))))
    return Principal(and_ids=Principal.Set(ids=required or [Principal(any=True)]))


def _any_principal(principals: Sequence[m.rbac.Principal]) -> m.rbac.Principal:
    return Principal(or_ids=Principal.Set(ids=principals))


def _principals(test: Test, values: Sequence[str]) -> list[m.rbac.Principal]:
    """One of these holds when the attribute is one of the values."""
    match test.attribute:
        case Attribute.HEADERS:
            return [Principal(header=matchers.header(test.names[0], value)) for value in values]
        case Attribute.CLAIMS:
            return [Principal(sourced_metadata=_noted(matchers.claims(test.names, values)))]
        case Attribute.AUDIENCES:
            return [Principal(sourced_metadata=_noted(matchers.claims(("aud",), values)))]
        case Attribute.PRESENTER:
            return [Principal(sourced_metadata=_noted(matchers.claims(("azp",), values)))]
    make = _PRINCIPALS[test.attribute]
    return [make(value) for value in values]


def _authenticated(matcher: m.strings.StringMatcher) -> m.rbac.Principal:
    return Principal(authenticated=Principal.Authenticated(principal_name=matcher))


def _of_token(value: str) -> m.rbac.Principal:
    issuer, subject = matchers.request_principal(value)
    both = [
        Principal(sourced_metadata=_noted(matchers.claim("iss", issuer))),
        Principal(sourced_metadata=_noted(matchers.claim("sub", subject))),
    ]
    return Principal(and_ids=Principal.Set(ids=both))


_PRINCIPALS: Final[Mapping[Attribute, Callable[[str], m.rbac.Principal]]] = {
    Attribute.PRINCIPAL: lambda value: _authenticated(matchers.principal(value)),
    Attribute.NAMESPACE: lambda value: _authenticated(matchers.namespace(value)),
    Attribute.SERVICE_ACCOUNT: lambda value: _authenticated(matchers.service_account(value)),
    Attribute.TRUST_DOMAIN: lambda value: _authenticated(matchers.trust_domain(value)),
    Attribute.SOURCE_IP: lambda value: Principal(direct_remote_ip=m.cidr_range(value)),
    Attribute.REMOTE_IP: lambda value: Principal(remote_ip=m.cidr_range(value)),
    Attribute.REQUEST_PRINCIPAL: _of_token,
}

"""An AuthenticationConfiguration (`apiserver.config.k8s.io/v1`, `v1beta1`), read and checked.

Follows `k8s.io/apiserver/pkg/apis/apiserver`. Nothing of it is passed over: what is not supported is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ondol.apiserver.auth.oidc.mapping import Mapper
from ondol.base import errors

_VERSIONS: Final = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1")
_KIND: Final = "AuthenticationConfiguration"
_ISSUERS_MAX: Final = 64


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Issuer(_Part, frozen=True):
    """Whose tokens are taken, and where its keys are."""

    url: str
    audiences: tuple[str, ...]
    discovery_url: str = msgspec.field(name="discoveryURL", default="")
    certificate_authority: str = ""
    audience_match_policy: str = ""


class ClaimRule(_Part, frozen=True):
    """What a claim must be, or what must hold of all."""

    claim: str = ""
    required_value: str = ""
    expression: str = ""
    message: str = ""


class UserRule(_Part, frozen=True):
    """What must hold of the user."""

    expression: str
    message: str = ""


class Source(_Part, frozen=True):
    """A claim with a prefix, or an expression."""

    claim: str = ""
    prefix: str | None = None
    expression: str = ""


class Extra(_Part, frozen=True):
    """One of the user's extra values."""

    key: str
    value_expression: str


class Mappings(_Part, frozen=True):
    """What a token's claims make of the user."""

    username: Source
    groups: Source = Source()
    uid: Source = Source()
    extra: tuple[Extra, ...] = ()


class Jwt(_Part, frozen=True):
    """One issuer with its rules."""

    issuer: Issuer
    claim_mappings: Mappings
    claim_validation_rules: tuple[ClaimRule, ...] = ()
    user_validation_rules: tuple[UserRule, ...] = ()


class _Path(_Part, frozen=True):
    path: str


class Anonymous(_Part, frozen=True):
    """Whether requests without credentials are anybody's, and to which paths."""

    enabled: bool
    conditions: tuple[_Path, ...] = ()


class _Whole(_Part, frozen=True):
    api_version: str
    kind: str
    metadata: Mapping[str, Any] = {}
    jwt: tuple[Jwt, ...] = ()
    anonymous: Anonymous | None = None


class Configuration:
    """The issuers, each with what maps its claims, and who is anonymous."""

    def __init__(self, document: object, own_issuer: str) -> None:
        """`HostError` for a document that is none; `own_issuer` signs tokens of service accounts."""
        try:
            whole = msgspec.convert(document, _Whole)
        except msgspec.ValidationError as error:
            raise _refused(str(error)) from error
        if whole.api_version not in _VERSIONS or whole.kind != _KIND:
            raise _refused(f"it is {whole.kind} of {whole.api_version}")
        for problem in _problems(whole, own_issuer):
            raise _refused(problem)
        self.anonymous = whole.anonymous
        try:
            self.issuers = [(jwt, Mapper(jwt)) for jwt in whole.jwt]
        except ValueError as error:
            raise _refused(str(error)) from error


def _refused(problem: str) -> errors.HostError:
    remedy = f"write that file as an {_KIND} of {_VERSIONS[0]}"
    return errors.HostError(f"authentication_config: {problem}", remedy=remedy)


def _problems(whole: _Whole, own_issuer: str) -> Iterator[str]:
    urls = [jwt.issuer.url for jwt in whole.jwt]
    if len(urls) > _ISSUERS_MAX:
        yield f"jwt: must have at most {_ISSUERS_MAX} items"
    if len(set(urls)) < len(urls):
        yield "jwt: two have the same issuer.url"
    if own_issuer in urls:
        yield f"jwt: URL must not overlap with the issuer of service accounts' tokens: {own_issuer}"
    for index, jwt in enumerate(whole.jwt):
        yield from (f"jwt[{index}].{problem}" for problem in _issuer_problems(jwt))
        yield from (f"jwt[{index}].{problem}" for problem in _rule_problems(jwt))
    if whole.anonymous is not None and whole.anonymous.conditions and not whole.anonymous.enabled:
        yield "anonymous.conditions: enabled should be set to true when conditions are defined"


def _issuer_problems(jwt: Jwt) -> Iterator[str]:
    issuer = jwt.issuer
    for field, url in (("url", issuer.url), ("discoveryURL", issuer.discovery_url)):
        if (url or field == "url") and not url.startswith("https://"):
            yield f"issuer.{field}: URL scheme must be https"
        if "?" in url or "#" in url or "@" in url:
            yield f"issuer.{field}: URL must not contain a username, a query or a fragment"
    if issuer.discovery_url == issuer.url:
        yield "issuer.discoveryURL: must be different from URL"
    if not issuer.audiences or not all(issuer.audiences):
        yield "issuer.audiences: at least one is required, and none may be empty"
    if len(issuer.audiences) > 1 and issuer.audience_match_policy != "MatchAny":
        yield "issuer.audienceMatchPolicy: must be MatchAny for multiple audiences"
    if issuer.audience_match_policy not in ("", "MatchAny"):
        yield "issuer.audienceMatchPolicy: must be MatchAny or empty"


def _rule_problems(jwt: Jwt) -> Iterator[str]:
    mappings = jwt.claim_mappings
    sources = (("username", mappings.username), ("groups", mappings.groups), ("uid", mappings.uid))
    for field, source in sources:
        yield from _source_problems(field, source)
    if not mappings.username.claim and not mappings.username.expression:
        yield "claimMappings.username: claim or expression is required"
    for index, rule in enumerate(jwt.claim_validation_rules):
        if bool(rule.claim) == bool(rule.expression):
            yield f"claimValidationRules[{index}]: claim or expression is required, and not both"
    for extra in mappings.extra:
        if "/" not in extra.key or extra.key != extra.key.lower():
            yield f"claimMappings.extra: {extra.key!r} must be a domain-prefixed path in lower case"


def _source_problems(field: str, source: Source) -> Iterator[str]:
    if source.claim and source.expression:
        yield f"claimMappings.{field}: claim and expression can't both be set"
    if source.expression and source.prefix is not None:
        yield f"claimMappings.{field}: prefix can't be set when expression is set"
    if source.claim and source.prefix is None and field != "uid":
        yield f'claimMappings.{field}: prefix is required when claim is set; it can be set to ""'
    if field == "uid" and source.prefix is not None:
        yield "claimMappings.uid: it has no prefix"

"""Envoy's matchers of values as Istio's policies write them: exact, `abc*`, `*abc`, and `*` for presence.

`*` inside a word has no meaning of its own. Patterns are RE2, whose time is linear; they are made only where
no plainer matcher says the same.
"""

from __future__ import annotations

import re
import string as characters
from collections.abc import Iterable, Sequence
from typing import Final

from ondol.mesh.translate import messages as m

SPIFFE: Final = "spiffe://"
JWT_AUTHN: Final = "envoy.filters.http.jwt_authn"
PAYLOAD: Final = "payload"
"""Under which key of its filter's metadata a token's claims are."""
_ANY: Final = ".+"
_IN_NAME: Final = "[^/]*"
_PLAIN: Final = frozenset(f"{characters.ascii_letters}{characters.digits}_-/")


def string(value: str, *, ignores_case: bool = False) -> m.strings.StringMatcher:
    """A word as written; `*` is any but the empty one."""
    matcher = m.strings.StringMatcher(ignore_case=ignores_case)
    if value == "*":
        return pattern(_ANY)
    if value.startswith("*"):
        matcher.suffix = value[1:]
    elif value.endswith("*"):
        matcher.prefix = value[:-1]
    else:
        matcher.exact = value
    return matcher


def pattern(regex: str) -> m.strings.StringMatcher:
    """The whole value, by an expression of RE2."""
    return m.strings.StringMatcher(safe_regex=m.regex.RegexMatcher(regex=regex))


def quoted(text: str) -> str:
    """The text as a pattern that matches just it."""
    return re.sub(r"([\x00-\x7f])", lambda one: one[1] if one[1] in _PLAIN else f"\\{one[1]}", text)


# Callers, by their certificates: spiffe://<trust domain>/ns/<namespace>/sa/<service account>


def principal(value: str) -> m.strings.StringMatcher:
    """An identity, written without its scheme."""
    if value == "*":
        return pattern(_ANY)
    if value.startswith("*"):
        return pattern(f"{SPIFFE}.*{quoted(value[1:])}")
    matcher = string(value)
    if value.endswith("*"):
        matcher.prefix = SPIFFE + matcher.prefix
    else:
        matcher.exact = SPIFFE + value
    return matcher


def namespace(value: str) -> m.strings.StringMatcher:
    """Whoever is of a namespace, in whichever trust domain.

    No name has a slash, so the four words of `/ns/<namespace>/sa/` stand in an identity in one place only;
    less would not do: /ns/sa/ is in an identity of the namespace `ns`.
    """
    if "*" not in value:
        return m.strings.StringMatcher(contains=f"/ns/{value}/sa/")
    inside = _IN_NAME.join(map(quoted, value.split("*")))
    return pattern(f"{SPIFFE}[^/]*/ns/{inside}/sa/[^/]*")


def service_account(value: str) -> m.strings.StringMatcher:
    """`namespace/name`."""
    owner, _, name = value.partition("/")
    return m.strings.StringMatcher(suffix=f"/ns/{owner}/sa/{name}")


def trust_domain(value: str) -> m.strings.StringMatcher:
    """The part of an identity before its first slash."""
    if value == "*":
        return m.strings.StringMatcher(prefix=SPIFFE)
    if "*" not in value:
        return m.strings.StringMatcher(prefix=f"{SPIFFE}{value}/")
    first, _, last = value.partition("*")
    return pattern(f"{SPIFFE}{quoted(first)}{_IN_NAME}{quoted(last)}/.*")


# Requests


def header(name: str, value: str) -> m.routes.HeaderMatcher:
    if value == "*":
        return m.routes.HeaderMatcher(name=name, present_match=True)
    return m.routes.HeaderMatcher(name=name, string_match=string(value))


def hosts(value: str) -> list[m.routes.HeaderMatcher]:
    """A host in either case, whichever port is written behind it; one with a port is just that."""
    if value == "*":
        return [m.routes.HeaderMatcher(name=":authority", present_match=True)]
    matchers = [string(value, ignores_case=True)]
    if value.startswith("*"):
        matchers.append(pattern(f"(?i).*{quoted(value[1:])}:[0-9]*"))
    elif not value.endswith("*") and not has_port(value):
        matchers.append(string(f"{value}:*", ignores_case=True))
    return [m.routes.HeaderMatcher(name=":authority", string_match=each) for each in matchers]


def has_port(host: str) -> bool:
    """Whether a host is written with a port; colons in brackets are those of an address."""
    return ":" in host.rpartition("]")[2]


# Claims of tokens, and other metadata


def claim(name: str, matcher: m.strings.StringMatcher) -> m.metadata_matcher.MetadataMatcher:
    """A claim that is a word."""
    return metadata(JWT_AUTHN, (PAYLOAD, name), m.value_matcher.ValueMatcher(string_match=matcher))


def claims(names: Sequence[str], values: Iterable[str]) -> m.metadata_matcher.MetadataMatcher:
    """A claim that is one of the values, or a list with one of them; each name after the first is inside."""
    one = any_of([m.value_matcher.ValueMatcher(string_match=string(value)) for value in values])
    listed = m.value_matcher.ValueMatcher(list_match=m.value_matcher.ListMatcher(one_of=one))
    return metadata(JWT_AUTHN, (PAYLOAD, *names), any_of([listed, one]))


def of_filter(names: Sequence[str], values: Iterable[str]) -> m.metadata_matcher.MetadataMatcher:
    """Metadata of a filter: `v` is a word, `[v]` a list that has it."""
    matchers = []
    for value in values:
        is_list = value.startswith("[") and value.endswith("]")
        one = m.value_matcher.ValueMatcher(string_match=string(value.strip("[]") if is_list else value))
        if is_list:
            one = m.value_matcher.ValueMatcher(list_match=m.value_matcher.ListMatcher(one_of=one))
        matchers.append(one)
    return metadata(names[0], names[1:], any_of(matchers))


def any_of(matchers: Sequence[m.value_matcher.ValueMatcher]) -> m.value_matcher.ValueMatcher:
    if len(matchers) == 1:
        return matchers[0]
    return m.value_matcher.ValueMatcher(or_match=m.value_matcher.OrMatcher(value_matchers=matchers))


def metadata(
    filter_name: str, path: Iterable[str], value: m.value_matcher.ValueMatcher
) -> m.metadata_matcher.MetadataMatcher:
    segment = m.metadata_matcher.MetadataMatcher.PathSegment
    return m.metadata_matcher.MetadataMatcher(
        filter=filter_name, path=[segment(key=key) for key in path], value=value
    )


def request_principal(value: str) -> tuple[m.strings.StringMatcher, m.strings.StringMatcher]:
    """`issuer/subject`, each of which may be a prefix, a suffix or anything, as matchers of both.

    An issuer may be a URL: the subject is what stands after the last slash.
    """
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        return pattern(_ANY), pattern(_ANY)
    if not slash:
        if value.startswith("*"):
            return pattern(_ANY), string(value)
        return (string(value), pattern(_ANY)) if value.endswith("*") else (string(value), string(""))
    if value.startswith("*"):
        return string(issuer), m.strings.StringMatcher(exact=subject)
    if value.endswith("*"):
        return m.strings.StringMatcher(exact=issuer), string(subject)
    return m.strings.StringMatcher(exact=issuer), m.strings.StringMatcher(exact=subject)

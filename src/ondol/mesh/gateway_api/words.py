"""The parts of Gateway API's schemas that no type says: kinds of lists, and rules in CEL with our messages.

The rules are those of Gateway API v1.6; each is a pair of an expression and what is told when it is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Rule = tuple[str, str]

ATOMIC: Final[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}
SET: Final[dict[str, Any]] = {"x-kubernetes-list-type": "set"}


def map_by(key: str) -> dict[str, Any]:
    """A list whose items are told apart by a field."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def rules(*listed: Rule) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in listed]}


IMMUTABLE: Final[Rule] = ("self == oldSelf", "cannot be changed")
UNIQUE_PORTS: Final[Rule] = (
    "self.all(t1, self.exists_one(t2, t1.port == t2.port))",
    "a port can be named once",
)
LISTENERS: Final[tuple[Rule, ...]] = (
    (
        "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
        "listeners of protocol HTTP, TCP or UDP have no tls",
    ),
    (
        (
            "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? "
            "(l.tls.mode == '' || l.tls.mode == 'Terminate') : true)"
        ),
        "listeners of protocol HTTPS have the tls mode Terminate",
    ),
    (
        "self.all(l, (l.protocol == 'TLS' ? has(l.tls) && has(l.tls.mode) && l.tls.mode != '' : true))",
        "listeners of protocol TLS need a tls mode",
    ),
    (
        "self.all(l, l.protocol in ['TCP', 'UDP'] ? (!has(l.hostname) || l.hostname == '') : true)",
        "listeners of protocol TCP or UDP have no hostname",
    ),
    ("self.all(l1, self.exists_one(l2, l1.name == l2.name))", "two listeners cannot have one name"),
    (
        (
            "self.all(l1, self.exists_one(l2, l1.port == l2.port && l1.protocol == l2.protocol && "
            "(has(l1.hostname) && has(l2.hostname) ? l1.hostname == l2.hostname : "
            "!has(l1.hostname) && !has(l2.hostname))))"
        ),
        "two listeners cannot have the same port, protocol and hostname",
    ),
)
_HOSTNAME: Final = r'r"""^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"""'
ADDRESSES: Final[tuple[Rule, ...]] = tuple(
    (
        (
            f"self.all(a1, a1.type == '{kind}' && has(a1.value) ? self.exists_one(a2, "
            "a2.type == a1.type && has(a2.value) && a2.value == a1.value) : true)"
        ),
        f"an address of type {kind} can be asked for once",
    )
    for kind in ("IPAddress", "Hostname")
)
METADATA_KEYS: Final[tuple[Rule, ...]] = (
    (
        (
            'self.all(key, key.matches(r"""^([a-z0-9]([-a-z0-9]*[a-z0-9])?'
            "(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            '([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"""))'
        ),
        "a key is a name of up to 63 characters, with a DNS subdomain and a slash before it or without",
    ),
    ('self.all(key, key.split("/")[0].size() < 253)', "the subdomain of a key has less than 253 characters"),
)


def _same(first: str, second: str, fields: tuple[str, ...]) -> str:
    return " && ".join(f"{first}.{field} == {second}.{field}" for field in fields)


def _same_optional(field: str) -> str:
    return (
        f"(((!has(p1.{field}) || p1.{field} == '') && (!has(p2.{field}) || p2.{field} == '')) || "
        f"(has(p1.{field}) && has(p2.{field}) && p1.{field} == p2.{field}))"
    )


_SECTION_OF_BOTH: Final = (
    "((!has(p1.sectionName) || p1.sectionName == '') == (!has(p2.sectionName) || p2.sectionName == ''))"
)
_SAME_PARENT: Final = f"{_same('p1', 'p2', ('group', 'kind', 'name'))} && {_same_optional('__namespace__')}"
PARENTS: Final[tuple[Rule, ...]] = (
    (
        f"self.all(p1, self.all(p2, {_SAME_PARENT} ? {_SECTION_OF_BOTH} : true))",
        "of several references to one parent each must have a sectionName",
    ),
    (
        f"self.all(p1, self.exists_one(p2, {_SAME_PARENT} && {_same_optional('sectionName')}))",
        "two references to one parent cannot have the same sectionName",
    ),
)


def _once(*types: str) -> tuple[Rule, ...]:
    return tuple(
        (f"self.filter(f, f.type == '{type_}').size() <= 1", f"a rule has one filter {type_} at most")
        for type_ in types
    )


HTTP_FILTERS: Final[tuple[Rule, ...]] = (
    (
        "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == 'URLRewrite'))",
        "a rule has one of the filters RequestRedirect and URLRewrite, not both",
    ),
    *_once("CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"),
)
GRPC_FILTERS: Final = _once("RequestHeaderModifier", "ResponseHeaderModifier")


def _filter(*types: str) -> tuple[Rule, ...]:
    fields = {type_: ("cors" if type_ == "CORS" else type_[0].lower() + type_[1:]) for type_ in types}
    fields = {type_: "urlRewrite" if type_ == "URLRewrite" else name for type_, name in fields.items()}
    return tuple(
        (
            f"has(self.{name}) == (self.type == '{type_}')",
            f"{name} is for filters of type {type_}, which need it",
        )
        for type_, name in fields.items()
    )


_PREFIX_MATCH: Final = (
    "((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') "
    "? false : true) : true"
)


def _prefix(field: str) -> tuple[Rule, ...]:
    replaces = (
        f"exists_one(f, has(f.{field}) && has(f.{field}.path) && f.{field}.path.type == 'ReplacePrefixMatch' "
        f"&& has(f.{field}.path.replacePrefixMatch))"
    )
    text = f"{field} with replacePrefixMatch needs exactly one match, of type PathPrefix"
    return (
        (f"(has(self.filters) && self.filters.{replaces}) ? {_PREFIX_MATCH}", text),
        (
            (
                "(has(self.backendRefs) && self.backendRefs.exists_one(b, "
                f"(has(b.filters) && b.filters.{replaces}))) ? {_PREFIX_MATCH}"
            ),
            f"in backendRefs {text}",
        ),
    )


def _matches_at_most(count: str) -> Rule:
    summed = " + ".join(f"(self.size() > {n} ? {count.replace('#', str(n))} : 0)" for n in range(16))
    return (f"{summed} <= 128", "a route has 128 matches at most, of all its rules together")


HTTP_RULES: Final = (_matches_at_most("self[#].matches.size()"),)
GRPC_RULES: Final = (_matches_at_most("(has(self[#].matches) ? self[#].matches.size() : 0)"),)
_LITERAL: Final = "(self.type in ['Exact', 'PathPrefix'])"


def _without(test: str, text: str) -> Rule:
    return (f"{_LITERAL} ? {test} : true", f"a value of type Exact or PathPrefix {text}")


def _not_alone(name: str) -> dict[str, Any]:
    return rules(("!('*' in self && self.size() > 1)", f"* stands alone in {name}"))


ALONE: Final = {name: SET | _not_alone(name) for name in ("allowHeaders", "allowMethods", "allowOrigins")}

STRUCTS: Final[Mapping[str, tuple[Rule, ...]]] = {
    "Address": (
        (
            f"self.type == 'Hostname' ? (!has(self.value) || self.value.matches({_HOSTNAME})) : true",
            "the value of an address of type Hostname is a DNS name",
        ),
    ),
    "ListenerTLS": (
        (
            "self.mode == 'Terminate' ? size(self.certificateRefs) > 0 || size(self.options) > 0 : true",
            "the mode Terminate needs certificateRefs or options",
        ),
    ),
    "BackendReference": (
        (
            "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
            "a Service needs a port",
        ),
    ),
    "HTTPRouteFilter": _filter(
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
    ),
    "GRPCRouteFilter": _filter(
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"
    ),
    "RequestMirror": (
        ("!(has(self.percent) && has(self.fraction))", "one of percent and fraction, not both"),
    ),
    "Fraction": (("self.numerator <= self.denominator", "the numerator is at most the denominator"),),
    "PathModifier": tuple(
        (f"has(self.{name}) == (self.type == '{type_}')", f"{name} is for type {type_}, which needs it")
        for type_, name in (
            ("ReplaceFullPath", "replaceFullPath"),
            ("ReplacePrefixMatch", "replacePrefixMatch"),
        )
    ),
    "PathMatch": (
        _without("self.value.startsWith('/')", "begins with /"),
        *(
            _without(f"!self.value.contains('{part}')", f"does not contain {part}")
            for part in ("//", "/./", "/../", "%2f", "%2F", "#")
        ),
        *(_without(f"!self.value.endsWith('{end}')", f"does not end with {end}") for end in ("/..", "/.")),
        _without(
            'self.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&\'()*+,;=:@]|[%][0-9a-fA-F]{2})+$""")',
            "has the characters of a path",
        ),
    ),
    "HTTPRouteRule": (
        (
            (
                "(has(self.backendRefs) && size(self.backendRefs) > 0) ? "
                "(!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))) : true"
            ),
            "a rule with the filter RequestRedirect has no backendRefs",
        ),
        *_prefix("requestRedirect"),
        *_prefix("urlRewrite"),
    ),
    "Timeouts": (
        (
            (
                "!(has(self.request) && has(self.backendRequest) && "
                "duration(self.request) != duration('0s') && "
                "duration(self.backendRequest) > duration(self.request))"
            ),
            "backendRequest is not longer than request",
        ),
    ),
    "GRPCMethodMatch": (
        ("has(self.type) ? has(self.service) || has(self.method) : true", "needs a service or a method"),
        (
            (
                "(!has(self.type) || self.type == 'Exact') && has(self.service) ? "
                'self.service.matches(r"""^(?i)\\.?[a-z_][a-z_0-9]*(\\.[a-z_][a-z_0-9]*)*$""") : true'
            ),
            "service is the full name of a gRPC service",
        ),
        (
            (
                "(!has(self.type) || self.type == 'Exact') && has(self.method) ? "
                'self.method.matches(r"""^[A-Za-z_][A-Za-z_0-9]*$""") : true'
            ),
            "method is the name of a gRPC method",
        ),
    ),
}
"""By the name of the struct they hold for."""
HOSTS_OF_TLS: Final[tuple[Rule, ...]] = (("self.all(h, !isIP(h))", "hostnames are no addresses"),)

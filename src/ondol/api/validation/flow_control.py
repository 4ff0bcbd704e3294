"""Rules of FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import flow_control, objects
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base.errors import Cause

_PRECEDENCE_MAX: Final = 10000
_QUEUES_MAX: Final = 10_000_000
_ENTROPY_MAX: Final = 60
_VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
)
_SUBJECTS: Final = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
_NON_NEGATIVE: Final = "must be a non-negative integer"


def schema(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec, name = objects.spec(obj), objects.name(obj)
    path, precedence = "spec.matchingPrecedence", spec.get("matchingPrecedence") or 0
    if precedence <= 0:
        yield causes.invalid(path, precedence, "must be a positive value")
    if precedence > _PRECEDENCE_MAX:
        yield causes.invalid(path, precedence, f"must not be greater than {_PRECEDENCE_MAX}")
    if precedence == 1 and name != flow_control.EXEMPT:
        detail = "only the schema named 'exempt' may have matchingPrecedence 1"
        yield causes.invalid(path, precedence, detail)
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        yield causes.not_supported("spec.distinguisherMethod.type", method, ("ByNamespace", "ByUser"))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name")
    if not level:
        yield causes.required("spec.priorityLevelConfiguration.name", "must reference a priority level")
    else:
        yield from fields.subdomain("spec.priorityLevelConfiguration.name", level)
    for index, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(rule, f"spec.rules[{index}]")
    fixed = flow_control.MANDATORY_SCHEMAS.get(name)
    if fixed is not None and spec != fixed:
        yield causes.invalid("spec", dict(spec), f"spec of '{name}' must equal the fixed value")


def _rule(rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if not rule.get("subjects"):
        yield causes.required(f"{path}.subjects", "subjects must contain at least one value")
    for index, subject in enumerate(rule.get("subjects") or ()):
        yield from _subject(subject, f"{path}.subjects[{index}]")
    resources, paths = rule.get("resourceRules") or (), rule.get("nonResourceRules") or ()
    if not resources and not paths:
        detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
        yield causes.required(path, detail)
    for index, each in enumerate(resources):
        yield from _resource_rule(each, f"{path}.resourceRules[{index}]")
    for index, each in enumerate(paths):
        yield from _path_rule(each, f"{path}.nonResourceRules[{index}]")


def _subject(subject: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind = subject.get("kind") or ""
    own = _SUBJECTS.get(kind)
    if own is None:
        yield causes.not_supported(f"{path}.kind", kind, _SUBJECTS)
        return
    named = subject.get(own)
    if named is None:
        yield causes.required(f"{path}.{own}", f"{own} is required when subject kind is '{kind}'")
    elif kind == "ServiceAccount":
        yield from _account(named, f"{path}.{own}")
    elif not named.get("name"):
        yield causes.required(f"{path}.{own}.name")
    for other, field in _SUBJECTS.items():
        if field != own and subject.get(field) is not None:
            detail = f"{field} is forbidden when subject kind is not '{other}'"
            yield causes.forbidden(f"{path}.{field}", detail)


def _account(account: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name, namespace = account.get("name") or "", account.get("namespace") or ""
    if not name:
        yield causes.required(f"{path}.name")
    elif name != "*":
        yield from fields.subdomain(f"{path}.name", name)
    if not namespace:
        yield causes.required(f"{path}.namespace", "must specify namespace for service account")
    else:
        yield from fields.label(f"{path}.namespace", namespace)


def _verbs(verbs: Sequence[str], path: str) -> Iterator[Cause]:
    yield from _listed(path, verbs, "verbs", "verbs must contain at least one value")
    if "*" not in verbs and not set(verbs) <= set(_VERBS):
        yield causes.not_supported(path, list(verbs), _VERBS)


def _listed(path: str, values: Sequence[str], word: str, missing: str) -> Iterator[Cause]:
    if not values:
        yield causes.required(path, missing)
    elif len(values) > 1 and "*" in values:
        yield causes.invalid(path, list(values), f"if '*' is present, must not specify other {word}")


def _resource_rule(rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from _verbs(rule.get("verbs") or (), f"{path}.verbs")
    for field, word, one in (
        ("apiGroups", "api groups", "api group"),
        ("resources", "resources", "resource"),
    ):
        missing = f"resource rules must supply at least one {one}"
        yield from _listed(f"{path}.{field}", rule.get(field) or (), word, missing)
    namespaces = rule.get("namespaces") or ()
    if namespaces or not rule.get("clusterScope"):
        missing = "resource rules that are not cluster scoped must supply at least one namespace"
        yield from _listed(f"{path}.namespaces", namespaces, "namespaces", missing)
    for index, namespace in enumerate(namespaces if "*" not in namespaces else ()):
        for cause in fields.label(f"{path}.namespaces[{index}]", namespace):
            intro = "each member of this list must be '*' or a DNS-1123 label; "
            detail = cause.message.removeprefix(f"Invalid value: {causes.quoted(namespace)}: ")
            yield causes.invalid(f"{path}.namespaces[{index}]", namespace, intro + detail)


def _path_rule(rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from _verbs(rule.get("verbs") or (), f"{path}.verbs")
    urls = rule.get("nonResourceURLs") or ()
    missing = "nonResourceURLs must contain at least one value"
    yield from _listed(f"{path}.nonResourceURLs", urls, "non-resource URLs", missing)
    for index, url in enumerate(urls if "*" not in urls else ()):
        if detail := _url_problem(url):
            yield causes.invalid(f"{path}.nonResourceURLs[{index}]", url, detail)


def _url_problem(url: str) -> str:
    if not url:
        return "must not be empty"
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    is_suffix = url.count("*") == 1 and url.endswith("/*")
    return "" if "*" not in url or is_suffix else "wildcard can only do suffix matching"


def level(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec, name = objects.spec(obj), objects.name(obj)
    kind, exempt, limited = spec.get("type") or "", spec.get("exempt"), spec.get("limited")
    if (name == flow_control.EXEMPT) != (kind == "Exempt"):
        detail = "must be 'Exempt' if and only if `name` is 'exempt'"
        yield causes.invalid("spec.type", kind, detail)
    if kind == "Exempt":
        if limited is not None:
            yield causes.forbidden("spec.limited", "must be nil if the type is not Limited")
        yield from _shares(exempt or {}, "spec.exempt")
    elif kind == "Limited":
        if exempt is not None:
            yield causes.forbidden("spec.exempt", "must be nil if the type is Limited")
        if limited is None:
            yield causes.required("spec.limited", "must not be empty when type is Limited")
        else:
            yield from _limited(limited, "spec.limited")
    else:
        yield causes.not_supported("spec.type", kind, ("Exempt", "Limited"))
    yield from _fixed(name, spec)


def _fixed(name: str, spec: Mapping[str, Any]) -> Iterator[Cause]:
    fixed = flow_control.MANDATORY_LEVELS.get(name)
    if fixed is None:
        return
    if name == flow_control.EXEMPT:
        if {**spec, "exempt": fixed["exempt"]} != fixed:
            detail = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
            yield causes.invalid("spec", dict(spec), detail)
    elif spec != fixed:
        yield causes.invalid("spec", dict(spec), f"spec of '{name}' must equal the fixed value")


def _shares(limits: Mapping[str, Any], path: str) -> Iterator[Cause]:
    shares = limits.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        yield causes.invalid(f"{path}.nominalConcurrencyShares", shares, _NON_NEGATIVE)
    yield from fields.between(f"{path}.lendablePercent", limits.get("lendablePercent"), 0, 100)


def _limited(limits: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from _shares(limits, path)
    borrowed = limits.get("borrowingLimitPercent")
    if borrowed is not None and borrowed < 0:
        detail = f"if specified, {_NON_NEGATIVE}"
        yield causes.invalid(f"{path}.borrowingLimitPercent", borrowed, detail)
    response, path = limits.get("limitResponse") or {}, f"{path}.limitResponse"
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind not in ("Queue", "Reject"):
        yield causes.not_supported(f"{path}.type", kind, ("Queue", "Reject"))
    elif kind == "Reject" and queuing is not None:
        detail = "must be nil if limited.limitResponse.type is not Limited"
        yield causes.forbidden(f"{path}.queuing", detail)
    elif kind == "Queue" and queuing is None:
        detail = "must not be empty if limited.limitResponse.type is Limited"
        yield causes.required(f"{path}.queuing", detail)
    elif queuing is not None:
        yield from _queuing(queuing, f"{path}.queuing")


def _queuing(queuing: Mapping[str, Any], path: str) -> Iterator[Cause]:
    queues, hand = queuing.get("queues") or 0, queuing.get("handSize") or 0
    for field in ("queueLengthLimit", "queues", "handSize"):
        if (queuing.get(field) or 0) <= 0:
            yield causes.invalid(f"{path}.{field}", queuing.get(field) or 0, "must be positive")
    if queues > _QUEUES_MAX:
        yield causes.invalid(f"{path}.queues", queues, f"must not be greater than {_QUEUES_MAX}")
    if hand > queues:
        yield causes.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})")
    elif hand > 0 and math.ceil(math.log2(queues) * hand) > _ENTROPY_MAX:
        detail = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than "
            f"{_ENTROPY_MAX}"
        )
        yield causes.invalid(f"{path}.handSize", hand, detail)

"""Which requests are audited, and how much of them: `audit.k8s.io/v1` Policy, by its first rule that fits.

Follows `k8s.io/apiserver/pkg/audit/policy`; pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ondol.apiserver.auth.identity import User
from ondol.apiserver.requestinfo import RequestInfo
from ondol.base import errors

LEVELS: Final = ("None", "Metadata", "Request", "RequestResponse")
RECEIVED: Final = "RequestReceived"
STARTED: Final = "ResponseStarted"
COMPLETE: Final = "ResponseComplete"
PANIC: Final = "Panic"
STAGES: Final = (RECEIVED, STARTED, COMPLETE, PANIC)
_REMEDY: Final = "write it as an audit.k8s.io/v1 Policy"


class Config(NamedTuple):
    """What is recorded of a request."""

    level: int
    """The place in `LEVELS`."""
    omitted_stages: frozenset[str]
    omits_managed_fields: bool


class _Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    group: str = ""
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    level: str
    users: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[_Resources, ...] = ()
    namespaces: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = msgspec.field(name="nonResourceURLs", default=())
    omit_stages: tuple[str, ...] = ()
    omit_managed_fields: bool | None = None


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    api_version: str
    kind: str
    rules: tuple[_Rule, ...]
    metadata: dict[str, Any] = {}
    omit_stages: tuple[str, ...] = ()
    omit_managed_fields: bool = False


class Policy:
    """The rules in their order."""

    def __init__(self, document: object) -> None:
        """`HostError` for a document that is no policy; nothing of it is passed over."""
        try:
            policy = msgspec.convert(document, _Policy)
        except msgspec.ValidationError as error:
            raise errors.HostError(f"audit_policy: {error}", remedy=_REMEDY) from error
        if problem := _problem(policy):
            raise errors.HostError(f"audit_policy: {problem}", remedy=_REMEDY)
        self._rules = policy.rules
        self._configs = [_config(policy, rule) for rule in policy.rules]
        self._none = Config(0, frozenset(policy.omit_stages), policy.omit_managed_fields)

    def of(self, user: User | None, info: RequestInfo) -> Config:
        """Of a request whose user, if they are known, asks for this."""
        for rule, config in zip(self._rules, self._configs, strict=True):
            if _fits(rule, user, info):
                return config
        return self._none


def _config(policy: _Policy, rule: _Rule) -> Config:
    omits = policy.omit_managed_fields if rule.omit_managed_fields is None else rule.omit_managed_fields
    return Config(LEVELS.index(rule.level), frozenset((*policy.omit_stages, *rule.omit_stages)), omits)


def _problem(policy: _Policy) -> str:
    if (policy.api_version, policy.kind) != ("audit.k8s.io/v1", "Policy"):
        return f"it is {policy.kind} of {policy.api_version}"
    if not policy.rules:
        return "it has no rules"
    stages = [*policy.omit_stages, *(stage for rule in policy.rules for stage in rule.omit_stages)]
    unknown = [stage for stage in stages if stage not in STAGES]
    unknown += [rule.level for rule in policy.rules if rule.level not in LEVELS]
    if unknown:
        return f"unknown {unknown[0]!r}: levels are {', '.join(LEVELS)}, stages {', '.join(STAGES)}"
    both = (rule for rule in policy.rules if rule.non_resource_urls and (rule.resources or rule.namespaces))
    return "a rule cannot apply to both resources and nonResourceURLs" if any(both) else ""


def _fits(rule: _Rule, user: User | None, info: RequestInfo) -> bool:
    if rule.users and (user is None or user.name not in rule.users):
        return False
    if rule.user_groups and (user is None or set(user.groups).isdisjoint(rule.user_groups)):
        return False
    if rule.verbs and info.verb not in rule.verbs:
        return False
    if rule.namespaces or rule.resources:
        return bool(info.resource) and _fits_resource(rule, info)
    if rule.non_resource_urls:
        return not info.resource and any(_fits_path(pattern, info.path) for pattern in rule.non_resource_urls)
    return True


def _fits_path(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def _fits_resource(rule: _Rule, info: RequestInfo) -> bool:
    if rule.namespaces and info.namespace not in rule.namespaces:
        return False
    return not rule.resources or any(
        each.group in (info.group, "*") and (not each.resources or _names(each, info))
        for each in rule.resources
    )


def _names(listed: _Resources, info: RequestInfo) -> bool:
    if listed.resource_names and info.name not in listed.resource_names:
        return False
    whole = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    patterns = {"*", whole, f"{info.resource}/*"}
    if info.subresource:
        patterns.add(f"*/{info.subresource}")
    return not patterns.isdisjoint(listed.resources)


def without_managed_fields(value: Any) -> Any:
    """An object, a list of them or a table, without who owns which field; a copy where it differs.

    >>> without_managed_fields({"metadata": {"name": "a", "managedFields": []}})
    {'metadata': {'name': 'a'}}
    """
    if not isinstance(value, Mapping):
        return value
    changed = dict(value)
    metadata = changed.get("metadata")
    if isinstance(metadata, Mapping) and "managedFields" in metadata:
        changed["metadata"] = {key: each for key, each in metadata.items() if key != "managedFields"}
    if isinstance(items := changed.get("items"), Sequence):
        changed["items"] = [without_managed_fields(item) for item in items]
    if changed.get("kind") == "Table" and isinstance(rows := changed.get("rows"), Sequence):
        changed["rows"] = [{**row, "object": without_managed_fields(row.get("object"))} for row in rows]
    return changed

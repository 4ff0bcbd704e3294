"""Which FlowSchema a request is of, and to which flow of it it belongs.

Follows `k8s.io/apiserver/pkg/util/flowcontrol/rule.go`; pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver.auth import identity
from ondol.apiserver.auth.identity import User
from ondol.apiserver.requestinfo import RequestInfo

_PRECEDENCE: Final = 1000


def ordered(schemas: Iterable[Object]) -> list[Object]:
    """As they are asked: by their precedence, and of equals by their names."""
    return sorted(schemas, key=lambda each: (_precedence(each), objects.name(each)))


def _precedence(schema: Object) -> int:
    return int(objects.spec(schema).get("matchingPrecedence") or _PRECEDENCE)


def level_of(schema: Object) -> str:
    return str((objects.spec(schema).get("priorityLevelConfiguration") or {}).get("name") or "")


def first(schemas: Iterable[Object], user: User, info: RequestInfo) -> Object | None:
    """The first of the schemas that a request is of."""
    return next((schema for schema in schemas if matches(schema, user, info)), None)


def distinguisher(schema: Object, user: User, info: RequestInfo) -> str:
    """By what the flows of a schema are told apart."""
    method = (objects.spec(schema).get("distinguisherMethod") or {}).get("type")
    return user.name if method == "ByUser" else info.namespace if method == "ByNamespace" else ""


def matches(schema: Object, user: User, info: RequestInfo) -> bool:
    return any(
        any(_is_subject(subject, user) for subject in rule.get("subjects") or ()) and _is_of(rule, info)
        for rule in objects.spec(schema).get("rules") or ()
    )


def _is_subject(subject: Mapping[str, Any], user: User) -> bool:
    match subject.get("kind"):
        case "User":
            return (subject.get("user") or {}).get("name") in ("*", user.name)
        case "Group":
            name = (subject.get("group") or {}).get("name")
            return name == "*" or name in user.groups
        case "ServiceAccount":
            account = identity.split_service_account(user.name)
            asked = subject.get("serviceAccount") or {}
            return (
                account is not None
                and asked.get("namespace") == account[0]
                and asked.get("name") in ("*", account[1])
            )
    return False


def _is_of(rule: Mapping[str, Any], info: RequestInfo) -> bool:
    if info.resource:
        return any(_is_resource(each, info) for each in rule.get("resourceRules") or ())
    return any(_is_path(each, info) for each in rule.get("nonResourceRules") or ())


def _is_resource(rule: Mapping[str, Any], info: RequestInfo) -> bool:
    whole = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (
        _lists(rule.get("verbs"), info.verb)
        and _lists(rule.get("resources"), whole)
        and _lists(rule.get("apiGroups"), info.group)
    ):
        return False
    return (
        _lists(rule.get("namespaces"), info.namespace) if info.namespace else bool(rule.get("clusterScope"))
    )


def _is_path(rule: Mapping[str, Any], info: RequestInfo) -> bool:
    urls: Sequence[str] = rule.get("nonResourceURLs") or ()
    return _lists(rule.get("verbs"), info.verb) and any(_covers(url, info.path) for url in urls)


def _covers(pattern: str, path: str) -> bool:
    """A path stands for all below it, too, as in Kubernetes."""
    if pattern in ("*", path):
        return True
    prefix = pattern.removesuffix("*")
    return path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def _lists(listed: Collection[str] | None, word: str) -> bool:
    return listed is not None and (word in listed or "*" in listed)

"""The paths of a kind as both versions of OpenAPI list them: one operation per verb.

kubectl reads three things here: which kind a PATCH is for, whether its body may be a strategic merge
patch, and whether it takes `fieldValidation` and `dryRun`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ondol.api.kinds import Kind, Subresource

_LIST: Final = (
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
)
_WRITE: Final = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_DELETE: Final = (
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
)
_LOG: Final = (
    ("container", "string"),
    ("follow", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("stream", "string"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
)
_PATCHES: Final = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)
STRATEGIC: Final = "application/strategic-merge-patch+json"

_QUERIES: Final = {
    "list": _LIST,
    "deletecollection": (*_LIST[1:-1], *_DELETE),
    "post": _WRITE,
    "put": _WRITE,
    "patch": (*_WRITE, ("force", "boolean")),
    "delete": _DELETE,
    "get": (),
}
_METHODS: Final = {"list": "get", "deletecollection": "delete"}
_WORDS: Final = {
    "list": "list",
    "deletecollection": "deleteCollection",
    "post": "create",
    "put": "replace",
    "patch": "patch",
    "delete": "delete",
    "get": "read",
}
_ITEM: Final = (("delete", "delete"), ("get", "get"), ("patch", "patch"), ("update", "put"))
_COLLECTION: Final = (("deletecollection", "deletecollection"), ("list", "list"), ("create", "post"))


PROXY: Final = "proxy"
"""The subresource by which a server behind the API server is reached, by any method and path."""
_STREAMS: Final = (
    ("container", "string"),
    ("stderr", "boolean"),
    ("stdin", "boolean"),
    ("stdout", "boolean"),
    ("tty", "boolean"),
)
_CONNECTIONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "attach": _STREAMS,
    "exec": (("command", "string"), *_STREAMS),
    "portforward": (("ports", "integer"),),
    "proxy": (("path", "string"),),
}
"""What the query of a subresource that is connected to may say."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation in no version of OpenAPI: `_v2` and `_v3` write it in theirs."""

    path: str
    method: str
    action: str
    id: str
    group: str
    version: str
    kind: str
    type: str
    """What is sent: empty for the kind of the path itself."""
    sends: str
    """`object`, `patch`, `options` or nothing."""
    answers: str
    """`object`, `list`, `status`, `text`, or `stream` for a connection that is no document."""
    patches: tuple[str, ...]
    query: tuple[tuple[str, str], ...]


def operations(kind: Kind) -> Iterator[Operation]:
    """Every operation on a kind, its collection and its subresources."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    scope_word = "Namespaced" if kind.namespaced else ""
    collection = f"{root}{scope}/{kind.plural}"
    for verb, action in _COLLECTION:
        if verb in kind.verbs:
            yield _operation(kind, collection, action, scope_word)
    if kind.namespaced and "list" in kind.verbs:
        yield _operation(kind, f"{root}/{kind.plural}", "list", "", tail="ForAllNamespaces")
    for verb, action in _ITEM:
        if verb in kind.verbs:
            yield _operation(kind, f"{collection}/{{name}}", action, scope_word)
    for sub in kind.subresources:
        yield from _part(kind, f"{collection}/{{name}}/{sub.name}", scope_word, sub)


def _part(kind: Kind, path: str, scope_word: str, sub: Subresource) -> Iterator[Operation]:
    """The operations on one subresource."""
    for verb, action in (*_ITEM, ("create", "post")):
        if verb in sub.verbs and sub.is_connected:
            yield _connection(kind, path, action, scope_word, sub)
            if sub.name == PROXY:
                yield _connection(kind, f"{path}/{{path}}", action, scope_word, sub, tail="WithPath")
        elif verb in sub.verbs:
            yield _operation(kind, path, action, scope_word, tail=_title(sub.name), sub=sub)


def _operation(
    kind: Kind, path: str, action: str, scope: str, *, tail: str = "", sub: Subresource | None = None
) -> Operation:
    subject = sub or kind
    log = sub is not None and sub.name == "log"
    return Operation(
        path=path,
        method=_METHODS.get(action, action),
        action=action,
        id=f"{_WORDS[action]}{group_word(kind)}{_title(kind.version)}{scope}{kind.kind}{tail}",
        group=subject.group,
        version=subject.version,
        kind=subject.kind,
        type=sub.type if sub is not None else "",
        sends={"post": "object", "put": "object", "patch": "patch"}.get(
            action, "options" if "delete" in action else ""
        ),
        answers="text"
        if log
        else {"list": "list", "deletecollection": "status", "delete": "status"}.get(action, "object"),
        patches=(*_PATCHES, *(() if kind.custom else (STRATEGIC,))) if action == "patch" else (),
        query=_LOG if log else _QUERIES[action],
    )


def _connection(
    kind: Kind, path: str, method: str, scope: str, sub: Subresource, *, tail: str = ""
) -> Operation:
    """How a subresource is connected to."""
    words = f"connect{group_word(kind)}{_title(kind.version)}{_title(method)}"
    return Operation(
        path=path,
        method=method,
        action="connect",
        id=f"{words}{scope}{kind.kind}{_title(sub.name)}{tail}",
        group=sub.group,
        version=sub.version,
        kind=sub.kind,
        type="",
        sends="",
        answers="stream",
        patches=(),
        query=_CONNECTIONS.get(sub.name, ()),
    )


def group_word(kind: Kind) -> str:
    """`Core`, `Apps`, `RbacAuthorization`: how operations name a group."""
    if not kind.group:
        return "Core"
    return "".join(_title(part) for part in kind.group.removesuffix(".k8s.io").split("."))


def _title(word: str) -> str:
    return word[:1].upper() + word[1:]


def placeholders(path: str) -> list[str]:
    """The parameters a path itself holds, in order of name."""
    return [name for name in ("name", "namespace", "path") if f"{{{name}}}" in path]


def parameters(operation: Operation, *, v2: bool) -> list[dict[str, Any]]:
    """The query parameters of an operation."""
    return [parameter(name, "query", of, v2=v2) for name, of in operation.query]


def parameter(name: str, where: str, of: str, *, v2: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"in": where, "name": name, "uniqueItems": True}
    if where == "path":
        described["required"] = True
    if v2:
        return {**described, "type": of}
    described.pop("uniqueItems")
    return {**described, "schema": {"type": of, "uniqueItems": True}}

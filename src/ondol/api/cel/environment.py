"""What an expression can name: its variables and their types, its functions, the objects it may build.

Three kinds: `rule` for `x-kubernetes-validations`, `policy` for admission policies, and `match_condition` for
the conditions of webhooks and policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api.cel import library
from ondol.api.cel import types as t
from ondol.api.cel.functions import Registry
from ondol.api.cel.library import authz
from ondol.api.cel.types import FieldType, Type

CALL_LIMIT: Final = 1_000_000
"""What one evaluation may cost: about a tenth of a second."""
OBJECT_BUDGET: Final = 10_000_000
"""What all rules together may cost for one object, or all validations of one policy."""
MATCH_BUDGET: Final = 2_500_000
"""What the match conditions of one webhook or policy may cost together."""


@dataclass(frozen=True)
class Environment:
    variables: Mapping[str, Type]
    functions: Registry = field(default_factory=library.functions)
    builds_patches: bool = False
    """Whether `Object{}` and `JSONPatch{}` can be built."""

    def named_type(self, name: str) -> Type | None:
        """The type of a name, such as `string`; None for names that are none."""
        if self.builds_patches and (name == "Object" or name.startswith("Object.")):
            return t.object_named(name, _AnyField())
        if self.builds_patches and name == _JSON_PATCH.name:
            return _JSON_PATCH
        return library.types().get(name)


def rule(self_type: Type, *, optional_old_self: bool = False) -> Environment:
    """For a rule of a schema: `self`, and in a transition rule `oldSelf`."""
    old = t.optional_of(self_type) if optional_old_self else self_type
    return Environment({"self": self_type, "oldSelf": old})


def policy(
    *,
    params: bool = False,
    variables: Mapping[str, Type] | None = None,
    authorizer: bool = True,
    patches: bool = False,
) -> Environment:
    """For a policy: `object`, `oldObject`, `request`, `namespaceObject`, and what it declares.

    `variables` are the types of the policy's own variables, composed before; `patches` for a mutation, which
    may build `Object{}` and `JSONPatch{}`.
    """
    names: dict[str, Type] = {
        "object": t.DYN,
        "oldObject": t.DYN,
        "request": REQUEST,
        "namespaceObject": t.DYN,
        "variables": t.object_named(
            t.VARIABLES,
            {name: FieldType(name, type_) for name, type_ in (variables or {}).items()},
        ),
    }
    if params:
        names["params"] = t.DYN
    if authorizer:
        names |= _AUTHORIZING
    if patches:
        return Environment(names, library.functions(mutation=True), builds_patches=True)
    return Environment(names)


def match_condition(*, params: bool = False, authorizer: bool = True) -> Environment:
    """For a condition on whether a webhook or a policy, which may have `params`, is asked at all."""
    names: dict[str, Type] = {"object": t.DYN, "oldObject": t.DYN, "request": REQUEST}
    if params:
        names["params"] = t.DYN
    return Environment({**names, **_AUTHORIZING} if authorizer else names)


def _object(name: str, fields: Mapping[str, Type]) -> Type:
    return t.object_named(name, {key: FieldType(key, type_) for key, type_ in fields.items()})


_KIND: Final = _object(
    "kubernetes.GroupVersionKind", {"group": t.STRING, "version": t.STRING, "kind": t.STRING}
)
_RESOURCE: Final = _object(
    "kubernetes.GroupVersionResource", {"group": t.STRING, "version": t.STRING, "resource": t.STRING}
)
_USER: Final = _object(
    "kubernetes.UserInfo",
    {
        "username": t.STRING,
        "uid": t.STRING,
        "groups": t.list_of(t.STRING),
        "extra": t.map_of(t.STRING, t.list_of(t.STRING)),
    },
)
REQUEST: Final = _object(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": t.STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": t.STRING,
        "name": t.STRING,
        "namespace": t.STRING,
        "operation": t.STRING,
        "userInfo": _USER,
        "dryRun": t.BOOL,
        "options": t.DYN,
    },
)
_AUTHORIZING: Final[Mapping[str, Type]] = {
    "authorizer": authz.AUTHORIZER,
    "authorizer.requestResource": authz.RESOURCE_CHECK,
}


class _AnyField(dict[str, FieldType]):
    """The fields of an object of unknown kind: all there may be, of any type."""

    def get(self, key: str, default: Any = None) -> Any:
        del default
        return FieldType(key, t.DYN)


_JSON_PATCH: Final = _object(
    "JSONPatch", {"op": t.STRING, "path": t.STRING, "from": t.STRING, "value": t.DYN}
)

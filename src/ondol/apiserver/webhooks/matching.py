"""Which writes a rule of a webhook or policy is about. Pure.

Follows Kubernetes' `predicates/{rules,namespace,object}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ondol.api import labels, objects
from ondol.api.labels import Selector
from ondol.api.objects import Object
from ondol.apiserver.served import Catalogue, Served
from ondol.apiserver.webhooks import attributes as views
from ondol.apiserver.webhooks.attributes import Attributes

Namespaces = Callable[[str], Object | None]
"""A namespace by its name; none if there is none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Operations on resources; `*` stands for any of them."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    """Pairs of resource and subresource."""
    scope: str
    object_names: frozenset[str] = frozenset()
    """Only objects of these names; empty for all. Rules of policies have them."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Rule:
        return cls(
            frozenset(document.get("operations") or ()),
            frozenset(document.get("apiGroups") or ()),
            frozenset(document.get("apiVersions") or ()),
            tuple(_split(each) for each in document.get("resources") or ()),
            document.get("scope") or "*",
            frozenset(document.get("resourceNames") or ()),
        )

    def matches(self, attributes: Attributes, served: Served) -> bool:
        """Whether it is about a write, if that were one of `served`."""
        kind = served.kind
        return (
            _has(self.operations, attributes.operation)
            and _has(self.groups, kind.group)
            and _has(self.versions, kind.version)
            and (not self.object_names or attributes.name in self.object_names)
            and self._is_in_scope(attributes, served)
            and any(
                resource in ("*", kind.plural) and subresource in ("*", attributes.subresource)
                for resource, subresource in self.resources
            )
        )

    def names(self, served: Served) -> bool:
        """Whether it may be about writes of a kind at all."""
        kind = served.kind
        return (
            _has(self.groups, kind.group)
            and _has(self.versions, kind.version)
            and any(resource in ("*", kind.plural) for resource, _ in self.resources)
        )

    def _is_in_scope(self, attributes: Attributes, served: Served) -> bool:
        if self.scope == "*":
            return True
        is_namespaced = bool(attributes.namespace) and not is_namespace(served)
        return is_namespaced is (self.scope == "Namespaced")


def version_for(
    rules: Iterable[Rule], attributes: Attributes, catalogue: Catalogue, *, is_exact: bool
) -> Served | None:
    """The version of the kind that one of the rules is about; None if they are not about the write.

    With `is_exact` a rule means only the version that it names, and not the others with the same objects.
    """
    if any(rule.matches(attributes, attributes.served) for rule in rules):
        return attributes.served
    if is_exact:
        return None
    others = tuple(views.equivalents(catalogue, attributes.served))
    for rule in rules:
        for other in others:
            if rule.matches(attributes, other):
                return other
    return None


def _split(text: str) -> tuple[str, str]:
    resource, _, subresource = text.partition("/")
    return resource, subresource


def _has(allowed: frozenset[str], value: str) -> bool:
    return value in allowed or "*" in allowed


def is_namespace(served: Served) -> bool:
    return served.kind.plural == "namespaces" and not served.kind.group


@dataclass(frozen=True, slots=True)
class Selectors:
    """Of which objects, in which namespaces."""

    namespaces: Selector
    objects: Selector

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Selectors:
        """`BadRequest` if one of them is no selector."""
        return cls(
            labels.from_document(document.get("namespaceSelector") or {}),
            labels.from_document(document.get("objectSelector") or {}),
        )

    def match(self, attributes: Attributes, namespace: Namespaces) -> bool:
        return self._is_namespace_selected(attributes, namespace) and self._is_object_selected(attributes)

    def _is_namespace_selected(self, attributes: Attributes, namespace: Namespaces) -> bool:
        if self.namespaces.is_everything or not attributes.namespace:
            return True
        holder: Object | None
        if is_namespace(attributes.served) and attributes.obj is not None and not attributes.subresource:
            holder = attributes.obj
        else:
            holder = namespace(attributes.namespace)
        return self.namespaces.matches(objects.labels(holder or {}))

    def _is_object_selected(self, attributes: Attributes) -> bool:
        if self.objects.is_everything:
            return True
        shown: Iterable[Object | None] = (attributes.obj, attributes.old)
        return any(obj is not None and self.objects.matches(objects.labels(obj)) for obj in shown)

"""The kinds an API server answers for, built in and custom, and how to find one.

`builtin()` starts a registry with the built-in kinds; the API server adds the kinds of each
CustomResourceDefinition (`of_crd`) as it is established and removes them when it goes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import facts
from ondol.api.objects import Resource

STANDARD_VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)
_VERSION: Final = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STAGES: Final = {"alpha": 0, "beta": 1, None: 2}


@dataclass(frozen=True, slots=True)
class Subresource:
    """A part of a resource with a path of its own; `kind` is what is read and written there."""

    name: str
    group: str
    version: str
    kind: str
    verbs: tuple[str, ...]
    type: str = ""

    @property
    def is_connected(self) -> bool:
        """Whether it is spoken with, by options in the query, rather than read and written."""
        return not self.type and self.kind.endswith("Options")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind in one version: how it is named, scoped and served.

    `type` names its entry in the table of facts; it is empty for custom kinds, whose schema comes
    with their CustomResourceDefinition.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = STANDARD_VERBS
    subresources: tuple[Subresource, ...] = ()
    type: str = ""
    list_kind: str = ""
    """Empty means the kind is never listed."""
    stored: bool = True
    """Whether objects of the kind are kept; reviews, bindings and component statuses are only answered."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition brought this kind."""
        return not self.type

    @property
    def resource(self) -> Resource:
        """What a client needs to address the kind."""
        return Resource(self.group, self.version, self.plural, self.kind, self.namespaced)

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)


class Registry:
    """The kinds being served, by path or by a document's apiVersion and kind."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._by_path: dict[tuple[str, str, str], Kind] = {}
        self._by_kind: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self.add(kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(tuple(self._by_path.values()))

    def __len__(self) -> int:
        return len(self._by_path)

    def get(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind served at a path."""
        return self._by_path.get((group, version, plural))

    def of(self, api_version: str, kind: str) -> Kind | None:
        """The kind a document names."""
        return self._by_kind.get((api_version, kind))

    def add(self, kind: Kind) -> None:
        """Serve a kind, in place of an earlier one at the same path."""
        self.remove(kind)
        self._by_path[kind.group, kind.version, kind.plural] = kind
        self._by_kind[kind.api_version, kind.kind] = kind

    def remove(self, kind: Kind) -> None:
        """Stop serving what is at the kind's path; nothing happens if nothing is."""
        old = self._by_path.pop((kind.group, kind.version, kind.plural), None)
        if old is not None and self._by_kind.get((old.api_version, old.kind)) is old:
            del self._by_kind[old.api_version, old.kind]

    def groups(self) -> list[str]:
        """Every group, in the order they were first served."""
        return list(dict.fromkeys(group for group, _, _ in self._by_path))

    def versions(self, group: str) -> list[str]:
        """A group's versions, the preferred one first."""
        served = {version for g, version, _ in self._by_path if g == group}
        return sorted(served, key=version_priority, reverse=True)

    def in_version(self, group: str, version: str) -> list[Kind]:
        """The kinds of one group and version, by plural name."""
        kinds = [k for k in self._by_path.values() if k.group == group and k.version == version]
        return sorted(kinds, key=lambda kind: kind.plural)


def version_priority(version: str) -> tuple[int, int, int, int, str]:
    """A sort key by which `v2` > `v1` > `v1beta1` > `v1alpha1` > anything else."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (0, 0, 0, 0, version)
    return (1, _STAGES[match[2]], int(match[1]), int(match[3] or 0), "")


@functools.cache
def _builtin() -> tuple[Kind, ...]:
    return tuple(_of_facts(kind) for kind in facts.kinds())


def _of_facts(described: facts.KindFacts) -> Kind:
    return Kind(
        group=described.group,
        version=described.version,
        kind=described.kind,
        plural=described.plural,
        singular=described.singular,
        short_names=described.short_names,
        categories=described.categories,
        namespaced=described.namespaced,
        verbs=described.verbs,
        subresources=tuple(
            Subresource(s.name, s.group, s.version, s.kind, s.verbs, s.type) for s in described.subresources
        ),
        type=described.type,
        list_kind=f"{described.kind}List" if "list" in described.verbs else "",
        stored={"create", "get"} <= set(described.verbs),
    )


def builtin() -> Registry:
    """A new registry of the built-in kinds."""
    return Registry(_builtin())


def of_crd(crd: Mapping[str, Any]) -> list[Kind]:
    """The kinds a CustomResourceDefinition serves, one per version."""
    spec = crd["spec"]
    accepted = (crd.get("status") or {}).get("acceptedNames") or {}
    names = accepted if accepted.get("plural") else spec["names"]
    return [_of_version(spec, names, version) for version in served_versions(spec)]


def served_versions(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The versions in which the objects of a definition are served."""
    return [version for version in spec.get("versions") or () if version.get("served")]


def _of_version(spec: Mapping[str, Any], names: Mapping[str, Any], version: Mapping[str, Any]) -> Kind:
    group, name, kind = spec["group"], version["name"], names["kind"]
    parts = version.get("subresources") or {}
    verbs = ("get", "patch", "update")
    subresources = []
    if parts.get("scale") is not None:
        subresources.append(Subresource("scale", "autoscaling", "v1", "Scale", verbs))
    if parts.get("status") is not None:
        subresources.append(Subresource("status", group, name, kind, verbs))
    return Kind(
        group=group,
        version=name,
        kind=kind,
        plural=names["plural"],
        singular=names.get("singular") or kind.lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        namespaced=spec.get("scope") == "Namespaced",
        subresources=tuple(subresources),
        list_kind=names.get("listKind") or f"{kind}List",
    )

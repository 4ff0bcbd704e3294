"""Discovery documents read as `Resource` values: pure, used by `Client.describe` and `resource_for`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api.objects import Resource

ACCEPT: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True, slots=True)
class Described:
    """A resource with the words people call it by; `categories` name it together with others (`all`)."""

    resource: Resource
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: frozenset[str] = frozenset()

    def is_called(self, word: str) -> bool:
        """Whether a lower-case word names it: plural, singular, kind or short name, perhaps with a group."""
        name, _, group = word.partition(".")
        if name not in (self.resource.plural, self.singular, self.resource.kind.lower(), *self.short_names):
            return False
        versioned = f"{self.resource.version}.{self.resource.group}".rstrip(".")
        return group in ("", self.resource.group, versioned)


def path(api_version: str) -> str:
    """Where the resources of a group version are listed."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def versions(document: Mapping[str, Any]) -> list[str]:
    """Group versions in an `APIVersions` or `APIGroupList` document, preferred first."""
    if document.get("kind") == "APIVersions":
        return [str(version) for version in document.get("versions") or ()]
    return [
        str(version["groupVersion"])
        for group in document.get("groups") or ()
        for version in group.get("versions") or ()
    ]


def resource_list(document: Mapping[str, Any]) -> list[Described]:
    """The resources of an `APIResourceList`, subresources left out."""
    group, _, version = str(document.get("groupVersion") or "").rpartition("/")
    return [
        _described(
            Resource(
                item.get("group") or group,
                item.get("version") or version,
                str(item["name"]),
                str(item["kind"]),
                namespaced=bool(item.get("namespaced")),
            ),
            item.get("singularName"),
            item,
        )
        for item in document.get("resources") or ()
        if "/" not in str(item["name"])
    ]


def aggregated(document: Mapping[str, Any]) -> list[Described]:
    """The resources of an `APIGroupDiscoveryList` (apidiscovery.k8s.io/v2)."""
    return list(_aggregated(document))


def stale(document: Mapping[str, Any]) -> list[str]:
    """Group versions in it whose servers do not say what they serve."""
    return [
        f"{(group.get('metadata') or {}).get('name')}/{version.get('version')}"
        for group in document.get("items") or ()
        for version in group.get("versions") or ()
        if version.get("freshness") == "Stale"
    ]


def _aggregated(document: Mapping[str, Any]) -> Iterator[Described]:
    for group in document.get("items") or ():
        group_name = str((group.get("metadata") or {}).get("name") or "")
        for version in group.get("versions") or ():
            for item in version.get("resources") or ():
                kind = item.get("responseKind") or {}
                resource = Resource(
                    group_name,
                    str(version["version"]),
                    str(item["resource"]),
                    str(kind.get("kind") or ""),
                    namespaced=item.get("scope") == "Namespaced",
                )
                yield _described(resource, item.get("singularResource"), item)


def _described(resource: Resource, singular: str | None, item: Mapping[str, Any]) -> Described:
    return Described(
        resource,
        singular or resource.kind.lower(),
        tuple(item.get("shortNames") or ()),
        tuple(item.get("categories") or ()),
        frozenset(item.get("verbs") or ()),
    )


def named(described: Iterable[Described], word: str) -> list[Resource]:
    """The first resource that is called `word`, or all of a category of that name; empty if neither."""
    choices = list(described)
    lower = word.lower()
    if called := next((choice for choice in choices if choice.is_called(lower)), None):
        return [called.resource]
    return list({c.resource.group_resource: c.resource for c in choices if lower in c.categories}.values())

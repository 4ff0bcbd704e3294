"""Discovery documents read as `Resource` values: pure, used by `Client.discover` and `resource_for`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.objects import Resource

ACCEPT: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


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


def resource_list(document: Mapping[str, Any]) -> list[Resource]:
    """The resources of an `APIResourceList`, subresources left out."""
    group, _, version = str(document.get("groupVersion") or "").rpartition("/")
    return [
        Resource(
            entry.get("group") or group,
            entry.get("version") or version,
            str(entry["name"]),
            str(entry["kind"]),
            namespaced=bool(entry.get("namespaced")),
        )
        for entry in document.get("resources") or ()
        if "/" not in str(entry["name"])
    ]


def aggregated(document: Mapping[str, Any]) -> list[Resource]:
    """The resources of an `APIGroupDiscoveryList` (apidiscovery.k8s.io/v2)."""
    return list(_aggregated(document))


def _aggregated(document: Mapping[str, Any]) -> Iterator[Resource]:
    for group in document.get("items") or ():
        group_name = str((group.get("metadata") or {}).get("name") or "")
        for version in group.get("versions") or ():
            for entry in version.get("resources") or ():
                kind = entry.get("responseKind") or {}
                yield Resource(
                    group_name,
                    str(version["version"]),
                    str(entry["resource"]),
                    str(kind.get("kind") or ""),
                    namespaced=entry.get("scope") == "Namespaced",
                )

"""What all servers serve, in the forms in which clients ask for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from ondol.api import kinds, kinds_discovery, objects
from ondol.api.kinds import Registry
from ondol.api.objects import Object
from ondol.apiserver.aggregation.remotes import Remotes

_FIRST: Final = "apiregistration.k8s.io"
_RESOURCES_MAX: Final = 2000

Versions = Mapping[str, list[str]]
"""Groups in their order, each with its versions in theirs."""


# Who comes first


class Listed(NamedTuple):
    """What an APIService says of the place of its version."""

    group: str
    version: str
    group_priority: int
    version_priority: int


def listed(service: Object) -> Listed:
    spec = objects.spec(service)
    return Listed(
        str(spec.get("group") or ""),
        str(spec["version"]),
        int(spec.get("groupPriorityMinimum") or 0),
        int(spec.get("versionPriority") or 0),
    )


def ordered(entries: Iterable[Listed]) -> dict[str, list[str]]:
    """As kube-aggregator sorts them: the highest priority of any of its versions is that of a group."""
    by_group: dict[str, list[Listed]] = {}
    for entry in entries:
        by_group.setdefault(entry.group, []).append(entry)
    priorities = {
        group: (group != _FIRST, -max(each.group_priority for each in versions), group)
        for group, versions in by_group.items()
    }
    return {
        group: [each.version for each in sorted(by_group[group], key=_place, reverse=True)]
        for group in sorted(by_group, key=priorities.__getitem__)
    }


def _place(entry: Listed) -> Any:
    return entry.version_priority, kinds.version_priority(entry.version)


def versions(registry: Registry, remotes: Remotes, services: Iterable[Object]) -> Versions:
    """All named groups that are served here or elsewhere."""
    own = {(g, v) for g in registry.groups() if g for v in registry.versions(g)}
    there = own | {(remote.group, remote.version) for remote in remotes}
    entries = {(e.group, e.version): e for e in map(listed, services) if (e.group, e.version) in there}
    missing = there - entries.keys()  # the APIService is about to be made
    return ordered([*entries.values(), *(Listed(*each, 0, 0) for each in sorted(missing))])


# What is answered


def group(name: str, listed_versions: Iterable[str]) -> Object:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in listed_versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def aggregated(registry: Registry, remotes: Remotes, groups: Versions) -> Object:
    """All of `/apis`. A version whose server does not say what it serves is stale, and empty."""
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None},
            "versions": [_version(registry, remotes, name, version) for version in listed_versions],
        }
        for name, listed_versions in groups.items()
    ]
    return kinds_discovery.group_discovery_list(items)


def _version(registry: Registry, remotes: Remotes, name: str, version: str) -> Object:
    remote = remotes.get(name, version)
    if remote is None:
        return kinds_discovery.version_discovery(registry, name, version)
    resources = remotes.documents(remote).resources
    if resources is None:
        return {"version": version, "freshness": "Stale"}
    return {"version": version, "resources": list(resources), "freshness": "Current"}


# What a server says


class _Kind(msgspec.Struct, omit_defaults=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Subresource(msgspec.Struct, omit_defaults=True, rename="camel"):
    subresource: str
    response_kind: _Kind | None = None
    accepted_types: list[_Kind] = []
    verbs: list[str] = []


class _Resource(msgspec.Struct, omit_defaults=True, rename="camel"):
    resource: str
    scope: Literal["Namespaced", "Cluster"]
    response_kind: _Kind | None = None
    singular_resource: str = ""
    verbs: list[str] = []
    short_names: list[str] = []
    categories: list[str] = []
    subresources: list[_Subresource] = []


class _Version(msgspec.Struct):
    version: str
    resources: list[_Resource] | None = None


class _Metadata(msgspec.Struct):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _Metadata
    versions: list[_Version] = []


class _GroupList(msgspec.Struct):
    kind: Literal["APIGroupDiscoveryList"]
    items: list[_Group] = []


class _Legacy(msgspec.Struct, rename="camel"):
    name: str
    kind: str
    namespaced: bool
    singular_name: str = ""
    group: str = ""
    version: str = ""
    verbs: list[str] = []
    short_names: list[str] | None = None
    categories: list[str] | None = None


class _LegacyList(msgspec.Struct):
    resources: list[_Legacy] = []


def of_aggregated(body: bytes, group_name: str, version: str) -> tuple[Object, ...]:
    """Of a version in an `APIGroupDiscoveryList`; `MsgspecError` or `ValueError` for garbage."""
    document = msgspec.json.decode(body, type=_GroupList)
    chosen = [
        each
        for item in document.items
        if item.metadata.name == group_name
        for each in item.versions
        if each.version == version
    ]
    return _shown(chosen[0].resources or []) if chosen else ()


def of_legacy(body: bytes, group_name: str, version: str) -> tuple[Object, ...]:
    """The same of an `APIResourceList`."""
    entries = msgspec.json.decode(body, type=_LegacyList).resources
    of = {each.name: _of_legacy(each, group_name, version) for each in entries if "/" not in each.name}
    for entry in entries:
        name, slash, subresource = entry.name.partition("/")
        if slash and name in of:
            kind = _Kind(entry.group or group_name, entry.version or version, entry.kind)
            of[name].subresources.append(_Subresource(subresource, kind, verbs=entry.verbs))
    return _shown(list(of.values()))


def _of_legacy(entry: _Legacy, group_name: str, version: str) -> _Resource:
    return _Resource(
        entry.name,
        "Namespaced" if entry.namespaced else "Cluster",
        _Kind(entry.group or group_name, entry.version or version, entry.kind),
        entry.singular_name,
        entry.verbs,
        entry.short_names or [],
        entry.categories or [],
        [],
    )


def _shown(entries: list[_Resource]) -> tuple[Object, ...]:
    if len(entries) > _RESOURCES_MAX:
        raise ValueError(f"there are more than {_RESOURCES_MAX} resources")
    return tuple(_entries(entries))


def _entries(entries: list[_Resource]) -> Iterator[Object]:
    for entry in entries:
        entry.response_kind = entry.response_kind or _Kind()  # clients of 1.26 take it for granted
        for subresource in entry.subresources:
            subresource.response_kind = subresource.response_kind or _Kind()
        shown: Object = msgspec.to_builtins(entry)
        yield {**shown, "responseKind": {"group": "", "version": "", "kind": "", **shown["responseKind"]}}

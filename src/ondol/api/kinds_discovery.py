"""Discovery documents, derived from a registry of kinds: what clients read to learn what is served.

Both forms are here: the legacy lists (one document per group and version) and aggregated discovery
(apidiscovery.k8s.io/v2, one document for all).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from ondol.api.kinds import Kind, Registry, Subresource
from ondol.api.objects import Object


def api_versions(registry: Registry, address: str) -> Object:
    """The answer at `/api`: the core group's versions."""
    return {
        "kind": "APIVersions",
        "versions": registry.versions(""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(registry: Registry) -> Object:
    """The answer at `/apis`: every named group."""
    groups = [_group(registry, name) for name in registry.groups() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Object | None:
    """The answer at `/apis/<group>`, or None if nothing of the group is served."""
    if not name or not registry.versions(name):
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(registry, name)}


def _group(registry: Registry, name: str) -> Object:
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in registry.versions(name)]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def resource_list(registry: Registry, group_name: str, version: str) -> Object | None:
    """The answer at `/api/<version>` or `/apis/<group>/<version>`, or None if it is not served."""
    kinds = registry.in_version(group_name, version)
    if not kinds:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].api_version,
        "resources": [resource for kind in kinds for resource in _resources(kind)],
    }


def _resources(kind: Kind) -> list[Object]:
    resource: Object = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
        **_aliases(kind),
    }
    if kind.stored:
        resource["storageVersionHash"] = storage_version_hash(kind)
    return [resource, *(_subresource(kind, sub) for sub in kind.subresources)]


def _aliases(kind: Kind) -> Object:
    named: dict[str, Any] = {"shortNames": list(kind.short_names), "categories": list(kind.categories)}
    return {key: value for key, value in named.items() if value}


def _subresource(kind: Kind, sub: Subresource) -> Object:
    resource: Object = {
        "name": f"{kind.plural}/{sub.name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }
    if (sub.group, sub.version) != (kind.group, kind.version):
        resource |= {"group": sub.group, "version": sub.version}
    return resource


def storage_version_hash(kind: Kind) -> str:
    """Equal for every server that stores the kind in the same version."""
    named = f"{kind.group}/{kind.version}/{kind.kind}".encode()
    return base64.b64encode(hashlib.sha256(named).digest()[:8]).decode()


def aggregated(registry: Registry, *, core: bool) -> Object:
    """All of `/api` (`core`) or all of `/apis` as one `APIGroupDiscoveryList`."""
    names = [name for name in registry.groups() if (name == "") is core]
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None},
            "versions": [version_discovery(registry, name, version) for version in registry.versions(name)],
        }
        for name in names
    ]
    return group_discovery_list(items)


def group_discovery_list(items: list[Object]) -> Object:
    """The document of these groups."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def version_discovery(registry: Registry, group_name: str, version: str) -> Object:
    """One version of a group in it."""
    resources = [_resource(kind) for kind in registry.in_version(group_name, version)]
    return {"version": version, "resources": resources, "freshness": "Current"}


def _resource(kind: Kind) -> Object:
    resource: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
        **_aliases(kind),
    }
    if kind.subresources:
        resource["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": list(sub.verbs),
            }
            for sub in kind.subresources
        ]
    return resource

"""The APIServices of what this server answers for: one for each version of a group, also of custom kinds."""

from __future__ import annotations

from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.core import Core
from ondol.contracts.cluster import AUTOMANAGED_LABEL

_OWN_GROUP: Final = "apiregistration.k8s.io"
_CUSTOM_PRIORITY: Final = 1000, 100
_VERSIONS: Final = {"autoscaling": {"v2": 30}, "admissionregistration.k8s.io": {"v1beta1": 12}}
_GROUPS: Final = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
"""Which groups Kubernetes lists first."""


def local(core: Core) -> list[Object]:
    """Those there should be now."""
    served = {(kind.group, kind.version): kind.custom for kind in core.catalogue.registry}
    return [
        _local(group, version, custom=custom)
        for (group, version), custom in sorted(served.items())
        if group != _OWN_GROUP
    ]


def _local(group: str, version: str, *, custom: bool) -> Object:
    of_group, of_version = _CUSTOM_PRIORITY
    if not custom:
        of_group = _GROUPS.get(group, of_group)
        of_version = 1 if not group else _VERSIONS.get(group, {}).get(version, 15)
    return {
        "metadata": {
            "name": f"{version}.{group}",
            "labels": {AUTOMANAGED_LABEL: "true" if custom else "onstart"},
        },
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": of_group,
            "versionPriority": of_version,
        },
    }


def left_over(core: Core) -> list[str]:
    """The names of those of custom kinds that are no longer served."""
    current = {objects.name(service) for service in local(core)}
    return [
        objects.name(service)
        for service in core.list_objects(resources.API_SERVICE)
        if objects.labels(service).get(AUTOMANAGED_LABEL) == "true" and objects.name(service) not in current
    ]

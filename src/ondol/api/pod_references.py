"""What a pod's spec refers to by name: ConfigMaps, Secrets, claims, its service account. Pure.

The node reads by it what the pod needs, and the API server allows the node to read exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

Spec: TypeAlias = Mapping[str, Any]

_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")


class References(NamedTuple):
    """Names in the pod's own namespace."""

    config_maps: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()

    def __or__(self, other: References) -> References:
        return References(self.config_maps | other.config_maps, self.secrets | other.secrets)


def of(spec: Spec) -> References:
    """Everything the pod needs, in volumes and in environments."""
    return of_volumes(spec) | of_environments(spec)


def of_volumes(spec: Spec) -> References:
    """What volumes are filled from; the node follows it while the pod runs."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for volume in spec.get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            maps.add(_name(source, "configMap", "name"))
            secrets.add(_name(source, "secret", "secretName") or _name(source, "secret", "name"))
    return References(frozenset(maps - {""}), frozenset(secrets - {""}))


def of_environments(spec: Spec) -> References:
    """What environment variables are taken from when a container is created."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for origin in _origins(spec):
        maps |= {_name(origin, "configMapKeyRef", "name"), _name(origin, "configMapRef", "name")}
        secrets |= {_name(origin, "secretKeyRef", "name"), _name(origin, "secretRef", "name")}
    return References(frozenset(maps - {""}), frozenset(secrets - {""}))


def _origins(spec: Spec) -> Iterator[Spec]:
    for field in _CONTAINERS:
        for container in spec.get(field) or ():
            yield from (variable.get("valueFrom") or {} for variable in container.get("env") or ())
            yield from container.get("envFrom") or ()


def _name(holder: Spec, field: str, key: str) -> str:
    return str((holder.get(field) or {}).get(key) or "")


def pull_secrets(spec: Spec) -> frozenset[str]:
    return frozenset(str(each.get("name")) for each in spec.get("imagePullSecrets") or () if each.get("name"))


def claims(pod_name: str, spec: Spec) -> frozenset[str]:
    """Names of PersistentVolumeClaims, those created for its ephemeral volumes included."""
    named = {_name(volume, "persistentVolumeClaim", "claimName") for volume in spec.get("volumes") or ()}
    own = {
        f"{pod_name}-{volume['name']}"
        for volume in spec.get("volumes") or ()
        if volume.get("ephemeral") is not None
    }
    return frozenset((named | own) - {""})


def audiences(spec: Spec) -> frozenset[str]:
    """Whom the tokens in its volumes are for; the empty one is the API server itself."""
    return frozenset(
        str(source["serviceAccountToken"].get("audience") or "")
        for volume in spec.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if source.get("serviceAccountToken") is not None
    )

"""What a pod's document says of its containers, their users and group, for every room of the node. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from ondol.api import objects

Spec: TypeAlias = Mapping[str, Any]


def init_containers(pod: Spec) -> list[Spec]:
    return list(objects.spec(pod).get("initContainers") or ())


def app_containers(pod: Spec) -> list[Spec]:
    return list(objects.spec(pod).get("containers") or ())


def ephemeral_containers(pod: Spec) -> list[Spec]:
    """Those that were added to look at the others."""
    return list(objects.spec(pod).get("ephemeralContainers") or ())


def all_containers(pod: Spec) -> Iterator[Spec]:
    yield from init_containers(pod)
    yield from app_containers(pod)
    yield from ephemeral_containers(pod)


def is_ephemeral(pod: Spec, name: str) -> bool:
    return any(container["name"] == name for container in ephemeral_containers(pod))


def image_volumes(pod: Spec, container: Spec) -> dict[str, Spec]:
    """The images that the container has as volumes, by the volumes' names."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
    volumes = objects.spec(pod).get("volumes") or () if mounted else ()
    return {str(v["name"]): v["image"] for v in volumes if v["name"] in mounted and v.get("image")}


def images(pod: Spec, container: Spec) -> set[str]:
    """The names of all images that the container cannot begin without."""
    own = {str(container.get("image") or "")}
    return own | {str(source.get("reference")) for source in image_volumes(pod, container).values()}


def identity(pod: Spec, container: Spec, name: str) -> Any:
    """A field of the container's security context, else of the pod's."""
    general = objects.spec(pod).get("securityContext") or {}
    return (container.get("securityContext") or {}).get(name, general.get(name))


def whole_limits(pod: Spec) -> Mapping[str, Any]:
    """The processors and memory that the pod as a whole is limited to."""
    limits = (objects.spec(pod).get("resources") or {}).get("limits") or {}
    return {name: limits[name] for name in ("cpu", "memory") if limits.get(name)}


def fs_group(pod: Spec) -> int | None:
    """Whose group the pod's volumes are."""
    value = (objects.spec(pod).get("securityContext") or {}).get("fsGroup")
    return None if value is None else int(value)


def changes_group_on_mismatch(pod: Spec) -> bool:
    """Whether a volume whose folder is the group's already is left as it is."""
    context = objects.spec(pod).get("securityContext") or {}
    return bool(context.get("fsGroupChangePolicy") == "OnRootMismatch")


def only_user(pod: Spec) -> int | None:
    """The `runAsUser` of all its containers that were there from the beginning, if each has the same."""
    containers = [*init_containers(pod), *app_containers(pod)]
    users = {identity(pod, container, "runAsUser") for container in containers}
    (user,) = users if len(users) == 1 else (None,)
    return None if user is None else int(user)

"""Rules of what is written to parts of a pod that runs: its ephemeral containers, and how large it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects, quality
from ondol.api.schema import causes
from ondol.base.errors import Cause

_ALLOWED: Final = frozenset(
    {
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "name",
        "resources",  # an empty one is what every container has
        "securityContext",
        "stdin",
        "stdinOnce",
        "targetContainerName",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tty",
        "volumeDevices",
        "volumeMounts",
        "workingDir",
    }
)
_NOT_HERE: Final = "cannot be set for an Ephemeral Container"
_SIZES: Final = ("cpu", "memory")
_GROUPS: Final = ("containers", "initContainers")


def ephemeral_containers(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """They are added; what was added stays as it is."""
    path, spec = "spec.ephemeralContainers", objects.spec(new)
    listed = {each.get("name"): each for each in spec.get("ephemeralContainers") or ()}
    for former in objects.spec(old).get("ephemeralContainers") or ():
        name = former["name"]
        if name not in listed:
            quoted = causes.quoted(name)
            yield causes.forbidden(path, f"existing ephemeral containers {quoted} may not be removed")
        elif listed[name] != former:
            quoted = causes.quoted(name)
            yield causes.forbidden(path, f"existing ephemeral containers {quoted} may not be changed")
    names = {each.get("name") for group in _GROUPS for each in spec.get(group) or ()}
    for index, container in enumerate(spec.get("ephemeralContainers") or ()):
        yield from _ephemeral(container, f"{path}[{index}]", names)


def _ephemeral(container: Mapping[str, Any], path: str, names: set[Any]) -> Iterator[Cause]:
    target = container.get("targetContainerName")
    if target and target not in names:
        yield causes.not_found(f"{path}.targetContainerName", target)
    if container.get("restartPolicy"):
        yield causes.forbidden(f"{path}.restartPolicy", "may not be set for ephemeral containers")
    for field in sorted(container.keys() - _ALLOWED - {"restartPolicy"}):
        yield causes.forbidden(f"{path}.{field}", _NOT_HERE)
    if container.get("resources"):
        yield causes.forbidden(f"{path}.resources", _NOT_HERE)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                yield causes.forbidden(f"{path}.volumeMounts[{index}].{field}", _NOT_HERE)


def resize(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Processors and memory of containers change, and nothing else of the pod."""
    spec, was = objects.spec(new), objects.spec(old)
    if any(_has_own_size(each) for each in (spec, was)):
        yield causes.forbidden("", "pods with pod-level resources cannot be resized")
        return
    outcome = quality.of(new)
    if outcome != (objects.status(old).get("qosClass") or quality.of(old)):
        detail = "Pod QOS Class may not change as a result of resizing"
        yield causes.invalid("spec", outcome, detail)
    disorder = [cause for group in _GROUPS for cause in _in_order(spec, was, group)]
    yield from disorder
    if not disorder:
        yield from _sizes(spec, was)


def _has_own_size(spec: Mapping[str, Any]) -> bool:
    resources = spec.get("resources") or {}
    return bool(resources.get("requests") or resources.get("limits"))


def _in_order(spec: Mapping[str, Any], was: Mapping[str, Any], group: str) -> Iterator[Cause]:
    now, before = (list(each.get(group) or ()) for each in (spec, was))
    if len(now) != len(before):
        yield causes.forbidden(f"spec.{group}", f"{group} may not be added or removed on resize")
        return
    for index, (container, former) in enumerate(zip(now, before, strict=True)):
        if container.get("name") != former.get("name"):
            detail = f"{group} may not be renamed or reordered on resize"
            yield causes.forbidden(f"spec.{group}[{index}].name", detail)


def _sizes(spec: Mapping[str, Any], was: Mapping[str, Any]) -> Iterator[Cause]:
    others: set[str] = set()
    for group in _GROUPS:
        pairs = zip(spec.get(group) or (), was.get(group) or (), strict=True)
        for index, (container, former) in enumerate(pairs):
            path = f"spec.{group}[{index}].resources"
            is_plain_init = group == "initContainers" and former.get("restartPolicy") != "Always"
            if not is_plain_init:
                yield from _kept(container, former, path)
            if _unsized(container, former, keep=is_plain_init) != former:
                others.add(_OTHERS[group, is_plain_init])
    yield from (causes.forbidden("spec", detail) for detail in sorted(others))


_OTHERS: Final = {
    ("containers", False): "only cpu and memory resources are mutable",
    ("initContainers", False): "only cpu and memory resources for sidecar containers are mutable",
    ("initContainers", True): "resources for non-sidecar init containers are immutable",
}


def _kept(container: Mapping[str, Any], former: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for kind in ("requests", "limits"):
        now, before = ((each.get("resources") or {}).get(kind) or {} for each in (container, former))
        if before.keys() - now.keys():
            yield causes.forbidden(f"{path}.{kind}", f"resource {kind} cannot be removed")


def _unsized(container: Mapping[str, Any], former: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    """The container as it would be without its change of size."""
    if keep:
        return dict(container)
    before = former.get("resources") or {}
    resources: dict[str, Any] = {**(container.get("resources") or {})}
    for kind in ("requests", "limits"):
        if kind not in before:
            resources.pop(kind, None)
            continue
        amounts = {k: v for k, v in (resources.get(kind) or {}).items() if k not in _SIZES}
        resources[kind] = amounts | {k: v for k, v in before[kind].items() if k in _SIZES}
    return {**container, "resources": resources}

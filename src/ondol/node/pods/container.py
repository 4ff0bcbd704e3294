"""From a container of a pod to what the runtime is told: command, user, limits, mounts (pure)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.base import quantity
from ondol.node.pods import env, model, status, volumes
from ondol.node.pods.model import Spec
from ondol.node.runtime import seccomp
from ondol.node.runtime import spec as oci

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TERMINATION_LOG: Final = "/dev/termination-log"
_IMAGE_SIGNALS: Final = "SIGTERM"


@dataclass(frozen=True, slots=True)
class Place:
    """What the node prepared for one attempt."""

    rootfs: str
    cgroup: str
    namespaces: Mapping[str, str]
    mounts: Sequence[oci.Document]
    image: Mapping[str, Any]
    image_user: oci.User
    environment: Mapping[str, str]
    node_memory_bytes: int
    current_oom_score_adj: int
    capabilities: Sequence[str] = oci.ALL_CAPABILITIES
    """Those the node has itself: the most it can give."""
    also_masked: Sequence[str] = ()
    also_read_only: Sequence[str] = ()
    seccomp: oci.Document | None = None
    """The profile named by the container, read from the node's folder."""


def unsupported(pod: Spec) -> tuple[list[str], list[str]]:
    """Fields this node does not honour: those it refuses to start with, and those it warns of."""
    spec = objects.spec(pod)
    refused: list[str] = []
    warned: list[str] = []
    if spec.get("shareProcessNamespace"):
        refused.append("spec.shareProcessNamespace")
    if spec.get("hostUsers") is False:
        refused.append("spec.hostUsers=false")
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        refused.append("spec.os.name")
    kinds = {str(v["name"]): volumes.kind(v) for v in spec.get("volumes") or ()}
    refused += [f"spec.volumes[{n}].{kind}" for n, kind in kinds.items() if kind not in volumes.SUPPORTED]
    for volume in spec.get("volumes") or ():
        refused += [f"spec.volumes[{volume['name']}].{part}" for part in volumes.unsupported(volume)]
        warned += [f"spec.volumes[{volume['name']}].{part}" for part in volumes.unlimited(volume)]
    warned += [f"spec.{name}" for name in _NOT_APPLIED if spec.get(name)]
    warned += _security("spec", spec)
    for container in model.all_containers(pod):
        field = f"spec.containers[{container['name']}]"
        refused += [f"{field}.{p}.grpc" for p in _PROBES if "grpc" in (container.get(p) or {})]
        refused += [f"{field}.volumeDevices"] if container.get("volumeDevices") else []
        warned += _security(field, container)
        warned += [f"{field}.tty"] if container.get("tty") else []
        warned += [f"{field}.ports.hostIP" for p in container.get("ports") or () if _is_lost(p)]
        most = (container.get("resources") or {}).get("limits") or {}
        warned += [f"{field}.resources.limits.ephemeral-storage"] if "ephemeral-storage" in most else []
    return refused, warned


_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")


_NOT_APPLIED: Final = ("ephemeralContainers", "resources", "runtimeClassName")
_NOT_APPLIED_SECURITY: Final = ("appArmorProfile", "seLinuxOptions", "windowsOptions")


def _security(field: str, holder: Spec) -> list[str]:
    given = holder.get("securityContext") or {}
    return [f"{field}.securityContext.{name}" for name in _NOT_APPLIED_SECURITY if given.get(name)]


def _is_lost(port: Spec) -> bool:
    """Bound to an IPv6 address, which pods are not reached by."""
    host_ip = str(port.get("hostIP") or "")
    return bool(port.get("hostPort")) and ":" in host_ip and host_ip != "::"


def seccomp_profile(pod: Spec, container: Spec) -> tuple[str, str]:
    """Type and file of the profile: the container's own, else the pod's, else `RuntimeDefault`."""
    for holder in (container, objects.spec(pod)):
        profile = (holder.get("securityContext") or {}).get("seccompProfile")
        if profile:
            return str(profile["type"]), str(profile.get("localhostProfile") or "")
    return "RuntimeDefault", ""


def _seccomp(pod: Spec, container: Spec, place: Place) -> oci.Document | None:
    """The filter itself; a privileged container has none."""
    kind, _ = seccomp_profile(pod, container)
    if _context(container).get("privileged") or kind == "Unconfined":
        return None
    if kind == "Localhost":
        return place.seccomp
    return seccomp.default(capabilities(container, place.capabilities))


def _context(container: Spec) -> Mapping[str, Any]:
    return container.get("securityContext") or {}


def command(container: Spec, image: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Entrypoint and arguments: the pod's over the image's; the image's Cmd only with its own entrypoint."""
    entrypoint = container.get("command") or image.get("Entrypoint") or []
    args = container.get("args")
    if args is None:
        args = [] if container.get("command") else image.get("Cmd") or []
    if not container.get("command") and not container.get("args"):
        return [*entrypoint, *args]
    given = [env.expand(str(part), environment) for part in container.get("command") or ()]
    rest = [env.expand(str(part), environment) for part in args] if container.get("args") else list(args)
    return [*(given or entrypoint), *rest]


def effective_user(pod: Spec, container: Spec, image_user: oci.User) -> oci.User:
    general = objects.spec(pod).get("securityContext") or {}
    own = container.get("securityContext") or {}
    uid = own.get("runAsUser", general.get("runAsUser"))
    gid = own.get("runAsGroup", general.get("runAsGroup"))
    must_not_be_root = own.get("runAsNonRoot", general.get("runAsNonRoot"))
    user_id = image_user.uid if uid is None else int(uid)
    if must_not_be_root and user_id == 0:
        raise env.ConfigMissing("container has runAsNonRoot and image will run as root")
    group_id = int(gid) if gid is not None else image_user.gid if uid in (None, image_user.uid) else 0
    extra = [*(general.get("supplementalGroups") or ())]
    if general.get("fsGroup") is not None:
        extra.append(general["fsGroup"])
    groups = image_user.groups if uid is None else ()
    return oci.User(user_id, group_id, tuple(dict.fromkeys([*groups, *(int(g) for g in extra)])))


def fs_group(pod: Spec) -> int | None:
    value = (objects.spec(pod).get("securityContext") or {}).get("fsGroup")
    return None if value is None else int(value)


def capabilities(container: Spec, available: Sequence[str] = oci.ALL_CAPABILITIES) -> list[str]:
    """The default ones or, with `ALL` added, all the node has, or none with `ALL` dropped; then each by name.

    In containerd's order: what is dropped by name is gone, and what is added by name is there even where
    `ALL` was dropped.
    """
    if _context(container).get("privileged"):
        return list(available)
    changes = _context(container).get("capabilities") or {}
    added = [_capability(name) for name in changes.get("add") or ()]
    dropped = [_capability(name) for name in changes.get("drop") or ()]
    kept = available if "CAP_ALL" in added else oci.DEFAULT_CAPABILITIES
    kept = () if "CAP_ALL" in dropped else kept
    named = dict.fromkeys([*kept, *(name for name in added if name != "CAP_ALL")])
    return [name for name in named if name not in dropped]


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def limits(container: Spec) -> oci.Limits:
    given = container.get("resources") or {}
    wanted, most = given.get("requests") or {}, given.get("limits") or {}
    cpu = wanted.get("cpu", most.get("cpu"))
    return oci.Limits(
        cpu_request_millis=quantity.millicores_of(cpu) if cpu is not None else 0,
        cpu_limit_millis=quantity.millicores_of(most["cpu"]) if most.get("cpu") else None,
        memory_limit_bytes=quantity.bytes_of(most["memory"]) if most.get("memory") else None,
    )


def oom_score_adj(pod: Spec, container: Spec, node_memory_bytes: int, current: int) -> int:
    """The kubelet's order (best effort dies first), but never below what this process itself has."""
    quality = status.quality_of_service(pod)
    if quality == "BestEffort":
        return 1000
    requested = ((container.get("resources") or {}).get("requests") or {}).get("memory")
    share = quantity.bytes_of(requested) / node_memory_bytes if requested else 0.0
    wanted = -997 if quality == "Guaranteed" else min(max(2, round(1000 - 1000 * share)), 999)
    return max(wanted, current)


def environment(
    pod: Spec,
    container: Spec,
    image: Mapping[str, str],
    *,
    sources: env.Sources,
    facts: env.PodFacts,
    services: Mapping[str, str],
    hostname: str,
) -> dict[str, str]:
    base = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, **image}
    return env.variables(pod, container, sources=sources, facts=facts, services=services, image=base)


def stop_signal(container: Spec, image: Mapping[str, Any]) -> str:
    return str(
        (container.get("lifecycle") or {}).get("stopSignal") or image.get("StopSignal") or _IMAGE_SIGNALS
    )


def termination_path(container: Spec) -> str:
    return inner(str(container.get("terminationMessagePath") or _TERMINATION_LOG))


def volume_mounts(
    container: Spec, folders: Mapping[str, str], environment: Mapping[str, str]
) -> Iterator[tuple[Spec, str, str]]:
    """Each mount with its volume's folder and its (expanded) path below it."""
    for mount in container.get("volumeMounts") or ():
        sub_path = mount.get("subPath") or env.expand(mount.get("subPathExpr") or "", environment)
        if mount["name"] not in folders:
            raise env.ConfigMissing(f'volumeMounts: volume "{mount["name"]}" does not exist')
        yield mount, folders[mount["name"]], sub_path


_PROPAGATION: Final = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


def bind(mount: Spec, source: str, *, is_read_only: bool) -> oci.Document:
    propagation = _PROPAGATION[mount.get("mountPropagation") or "None"]
    read_only = bool(mount.get("readOnly")) or is_read_only
    return oci.bind(source, inner(mount["mountPath"]), read_only=read_only, propagation=propagation)


def inner(path: str) -> str:
    """A path in the container from its root on, with no part to leave out."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def planned(pod: Spec, container: Spec, place: Place) -> oci.Container:
    """Everything the runtime spec is made of."""
    own = _context(container)
    spec = objects.spec(pod)
    args = command(container, place.image, place.environment)
    if not args:
        raise env.ConfigMissing("no command specified: neither the container nor its image has one")
    return oci.Container(
        rootfs=place.rootfs,
        args=args,
        cgroup=place.cgroup,
        env=[f"{name}={value}" for name, value in place.environment.items()],
        cwd=container.get("workingDir") or place.image.get("WorkingDir") or "/",
        user=effective_user(pod, container, place.image_user),
        mounts=place.mounts,
        namespaces=place.namespaces,
        limits=limits(container),
        capabilities=capabilities(container, place.capabilities),
        privileged=bool(own.get("privileged")),
        is_proc_masked=own.get("procMount") != "Unmasked",
        also_masked=place.also_masked,
        also_read_only=place.also_read_only,
        seccomp=_seccomp(pod, container, place),
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        own_pid_namespace=not spec.get("hostPID"),
        oom_score_adj=oom_score_adj(pod, container, place.node_memory_bytes, place.current_oom_score_adj),
        annotations={
            "io.kubernetes.pod.name": objects.name(pod),
            "io.kubernetes.pod.namespace": objects.namespace(pod),
            "io.kubernetes.pod.uid": objects.uid(pod),
            "io.kubernetes.container.name": str(container["name"]),
        },
    )

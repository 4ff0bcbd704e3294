"""From a container of a pod to what the runtime is told: command, user, limits, mounts (pure)."""

from __future__ import annotations

import platform
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects, quality
from ondol.base import quantity
from ondol.node import pod_spec, value_sources
from ondol.node.pods import env
from ondol.node.pods.model import Spec
from ondol.node.runtime import pause, seccomp
from ondol.node.runtime import spec as oci
from ondol.node.volumes import registry
from ondol.node.volumes.volume import Volume

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
    account: oci.User
    """That of `account`, with its groups by the root's own files."""
    environment: Mapping[str, str]
    """Every variable the process gets: the image's and the pod's."""
    declared: Mapping[str, str]
    """The pod's own, which `$(NAME)` may name."""
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
    if spec.get("shareProcessNamespace") and pause.program() is None:
        refused.append("spec.shareProcessNamespace")
    if spec.get("hostUsers") is False:
        refused.append("spec.hostUsers=false")
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        refused.append("spec.os.name")
    refused += registry.unsupported(pod)
    warned += _security("spec", spec)
    for container in pod_spec.all_containers(pod):
        field = f"spec.containers[{container['name']}]"
        refused += [f"{field}.volumeDevices"] if container.get("volumeDevices") else []
        warned += _security(field, container)
        warned += [f"{field}.ports.hostIP" for p in container.get("ports") or () if _is_lost(p)]
    return refused, warned


_NOT_APPLIED_SECURITY: Final = ("appArmorProfile", "seLinuxOptions", "windowsOptions")


def _security(field: str, holder: Spec) -> list[str]:
    context = holder.get("securityContext") or {}
    return [f"{field}.securityContext.{name}" for name in _NOT_APPLIED_SECURITY if context.get(name)]


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


def command(container: Spec, image: Mapping[str, Any], declared: Mapping[str, str]) -> list[str]:
    """Entrypoint and arguments: the pod's over the image's; the image's Cmd only with its own entrypoint.

    An empty list is as good as none, and only the pod's own words are expanded.
    """
    own = [env.expand(str(part), declared) for part in container.get("command") or ()]
    args = [env.expand(str(part), declared) for part in container.get("args") or ()]
    if not own and not args:
        args = list(image.get("Cmd") or ())
    return [*(own or image.get("Entrypoint") or ()), *args]


def account(pod: Spec, container: Spec, image: Mapping[str, Any]) -> str:
    """Who the process is: the pod's `runAsUser`, else the image's `User` as it is written there."""
    uid = pod_spec.identity(pod, container, "runAsUser")
    if uid is not None:
        return str(uid)
    user = str(image.get("User") or "")
    name = user.partition(":")[0]
    if pod_spec.identity(pod, container, "runAsNonRoot") and name and not name.isdigit():
        why = f"image has non-numeric user ({name}), cannot verify user is non-root"
        raise value_sources.ConfigMissing(f"container has runAsNonRoot and {why}")
    return user


def effective_user(pod: Spec, container: Spec, account: oci.User) -> oci.User:
    """The process' numbers: its account's, with the pod's groups besides those the image gives it."""
    general = objects.spec(pod).get("securityContext") or {}
    if pod_spec.identity(pod, container, "runAsNonRoot") and account.uid == 0:
        if pod_spec.identity(pod, container, "runAsUser") is not None:
            raise value_sources.ConfigMissing("container's runAsUser breaks non-root policy")
        raise value_sources.ConfigMissing("container has runAsNonRoot and image will run as root")
    group = pod_spec.identity(pod, container, "runAsGroup")
    own = () if general.get("supplementalGroupsPolicy") == "Strict" else account.groups
    added = [
        *(general.get("supplementalGroups") or ()),
        *([fs] if (fs := pod_spec.fs_group(pod)) is not None else ()),
    ]
    groups = tuple(dict.fromkeys([*own, *(int(each) for each in added)]))
    return oci.User(account.uid, account.gid if group is None else int(group), groups)


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
    granted = available if "CAP_ALL" in added else oci.DEFAULT_CAPABILITIES
    granted = () if "CAP_ALL" in dropped else granted
    named = dict.fromkeys([*granted, *(name for name in added if name != "CAP_ALL")])
    return [name for name in named if name not in dropped]


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def limits(container: Spec, pod: Spec | None = None) -> oci.Limits:
    """A limit that the container lacks is that of its pod as a whole."""
    resources = container.get("resources") or {}
    requests, own = resources.get("requests") or {}, resources.get("limits") or {}
    most = {**pod_spec.whole_limits(pod or {}), **{name: amount for name, amount in own.items() if amount}}
    cpu = requests.get("cpu", most.get("cpu"))
    return oci.Limits(
        cpu_request_millis=quantity.milli_of(cpu) if cpu is not None else 0,
        cpu_limit_millis=quantity.milli_of(most["cpu"]) if most.get("cpu") else None,
        memory_limit_bytes=quantity.bytes_of(most["memory"]) if most.get("memory") else None,
    )


def pod_limits(pod: Spec) -> oci.Limits | None:
    """Of the pod as a whole, its overhead with them; None where it has none."""
    most, overhead = pod_spec.whole_limits(pod), objects.spec(pod).get("overhead") or {}
    if not most:
        return None
    cpu, memory = (most.get(name) for name in ("cpu", "memory"))
    return oci.Limits(
        cpu_limit_millis=quantity.milli_of(cpu) + quantity.milli_of(overhead.get("cpu") or "0")
        if cpu
        else None,
        memory_limit_bytes=quantity.bytes_of(memory) + quantity.bytes_of(overhead.get("memory") or "0")
        if memory
        else None,
    )


def oom_score_adj(pod: Spec, container: Spec, node_memory_bytes: int, current: int) -> int:
    """The kubelet's order (best effort dies first), but never below what this process itself has."""
    kind = quality.of(pod)
    if kind == "BestEffort":
        return 1000
    share = (_memory(container) + _unclaimed(pod)) / node_memory_bytes
    adjustment = -997 if kind == "Guaranteed" else min(max(2, round(1000 - 1000 * share)), 999)
    return max(adjustment, current)


def _memory(holder: Spec) -> int:
    """The bytes it requests."""
    requested = ((holder.get("resources") or {}).get("requests") or {}).get("memory")
    return quantity.bytes_of(requested) if requested else 0


def _unclaimed(pod: Spec) -> float:
    """What the pod as a whole requests beyond its containers, in bytes for each of them."""
    containers = [*pod_spec.init_containers(pod), *pod_spec.app_containers(pod)]
    rest = _memory(objects.spec(pod)) - sum(map(_memory, containers))
    return max(0, rest) / max(1, len(containers))


def environment(image: Mapping[str, str], declared: Mapping[str, str], hostname: str) -> dict[str, str]:
    """Every variable of the process: the pod's over the image's over what each container has."""
    return {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, **image, **declared}


def stop_signal(container: Spec, image: Mapping[str, Any]) -> str:
    return str(
        (container.get("lifecycle") or {}).get("stopSignal") or image.get("StopSignal") or _IMAGE_SIGNALS
    )


def termination_path(container: Spec) -> str:
    return inner(str(container.get("terminationMessagePath") or _TERMINATION_LOG))


def volume_mounts(
    container: Spec, folders: Mapping[str, str], declared: Mapping[str, str]
) -> Iterator[tuple[Spec, str, str]]:
    """Each mount with its volume's folder and its (expanded) path below it."""
    for mount in container.get("volumeMounts") or ():
        sub_path = mount.get("subPath") or env.expand_strictly(mount.get("subPathExpr") or "", declared)
        if mount["name"] not in folders:
            raise value_sources.ConfigMissing(f'volumeMounts: volume "{mount["name"]}" does not exist')
        yield mount, folders[mount["name"]], sub_path


_PROPAGATION: Final = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


def bind(mount: Spec, source: str, volume: Volume) -> oci.Document:
    propagation = _PROPAGATION[mount.get("mountPropagation") or "None"]
    read_only = bool(mount.get("readOnly")) or volume.is_read_only
    bound = oci.bind(source, inner(mount["mountPath"]), read_only=read_only, propagation=propagation)
    options = [*volume.options, *(["rro"] if is_recursively_read_only(mount, platform.release()) else [])]
    return {**bound, "options": [*bound["options"], *options]} if options else bound


def is_recursively_read_only(mount: Spec, kernel: str) -> bool:
    """Whether what is mounted below the mount is read-only too; `ConfigMissing` where that cannot be had."""
    mode = mount.get("recursiveReadOnly") or "Disabled"
    if mode == "Disabled":
        return False
    is_possible = _numbers(kernel) >= _RECURSIVE
    if mode == "Enabled" and not is_possible:
        why = "requested recursive read-only mode, but it is not supported by the runtime"
        raise value_sources.ConfigMissing(f'volume "{mount["name"]}" {why}')
    return is_possible


_RECURSIVE: Final = (5, 12)
"""The first Linux that can: `mount_setattr`."""


def _numbers(kernel: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", kernel)[:2])


def inner(path: str) -> str:
    """A path in the container from its root on, with no part to leave out."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def planned(pod: Spec, container: Spec, place: Place) -> oci.Container:
    """Everything the runtime spec is made of."""
    own = _context(container)
    spec = objects.spec(pod)
    args = command(container, place.image, place.declared)
    if not args:
        raise value_sources.ConfigMissing("no command specified: neither the container nor its image has one")
    terminal = {"TERM": "xterm"} if container.get("tty") else {}
    return oci.Container(
        rootfs=place.rootfs,
        args=args,
        cgroup=place.cgroup,
        env=[f"{name}={value}" for name, value in {**terminal, **place.environment}.items()],
        cwd=container.get("workingDir") or place.image.get("WorkingDir") or "/",
        user=effective_user(pod, container, place.account),
        mounts=place.mounts,
        namespaces=place.namespaces,
        limits=limits(container, pod),
        capabilities=capabilities(container, place.capabilities),
        privileged=bool(own.get("privileged")),
        is_proc_masked=own.get("procMount") != "Unmasked",
        also_masked=place.also_masked,
        also_read_only=place.also_read_only,
        seccomp=_seccomp(pod, container, place),
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        own_pid_namespace=not spec.get("hostPID") and "pid" not in place.namespaces,
        terminal=bool(container.get("tty")),
        oom_score_adj=oom_score_adj(pod, container, place.node_memory_bytes, place.current_oom_score_adj),
        annotations={
            "io.kubernetes.pod.name": objects.name(pod),
            "io.kubernetes.pod.namespace": objects.namespace(pod),
            "io.kubernetes.pod.uid": objects.uid(pod),
            "io.kubernetes.container.name": str(container["name"]),
        },
    )

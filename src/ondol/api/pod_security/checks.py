"""The rules of the Pod Security Standards, each from the release that brought it.

A rule takes a pod's metadata and spec and answers a `Violation` (a short reason and the particulars) or None.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ondol.api.pod_security.policies import BASELINE, PRIVILEGED, RESTRICTED, LevelVersion

MINOR_MAX: Final = 34
"""The newest release whose standards are known; later versions are held to these."""

Spec: TypeAlias = Mapping[str, Any]


class Violation(NamedTuple):
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Value = TypeVar("Value")
Rule: TypeAlias = Callable[[Spec, Spec], Violation | None]


class Check(NamedTuple):
    """One rule of a level: `versions` from the oldest, `overrides` the check of baseline it replaces."""

    id: str
    level: str
    versions: tuple[tuple[int, Rule], ...]
    overrides: str = ""


def evaluate(standard: LevelVersion, metadata: Spec, spec: Spec) -> list[Violation]:
    """Everything a pod breaks of a level, in Kubernetes' order."""
    if standard.level == PRIVILEGED:
        return []
    minor = MINOR_MAX if standard.minor is None else min(standard.minor, MINOR_MAX)
    results = (rule(metadata, spec) for rule in _rules(standard.level, minor))
    return [violation for violation in results if violation is not None]


def reasons(violations: Iterable[Violation]) -> str:
    return ", ".join(violation.reason for violation in violations)


def details(violations: Iterable[Violation]) -> str:
    return ", ".join(str(violation) for violation in violations)


@functools.cache
def _rules(level: str, minor: int) -> tuple[Rule, ...]:
    """The rules of a level at a release: those of baseline by name, then those of restricted by name."""
    levels = (BASELINE,) if level == BASELINE else (BASELINE, RESTRICTED)
    chosen: dict[str, Rule] = {}
    for check in sorted(CHECKS, key=lambda check: (check.level, check.id)):
        rules = [rule for since, rule in check.versions if since <= minor]
        if check.level in levels and rules:
            chosen[check.id] = rules[-1]
            chosen.pop(check.overrides, None)
    return tuple(chosen.values())


# --- what rules are made of


def _containers(spec: Spec) -> Iterator[tuple[str, Spec, Spec]]:
    """Name, container and security context of all: to begin with, to run and to debug."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield container.get("name") or "", container, container.get("securityContext") or {}


def _each(spec: Spec, value: Callable[[Spec, Spec], Value]) -> list[tuple[str, Value]]:
    """A value of each container and its context, with its name, which need not be its own alone."""
    return [(name, value(container, context)) for name, container, context in _containers(spec)]


def _union(each: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """All values there are, sorted."""
    return sorted({item for _, items in each for item in items})


def _pod_context(spec: Spec) -> Spec:
    return spec.get("securityContext") or {}


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _named(containers: Collection[str]) -> str:
    return f"{_plural('container', len(containers))} {_quoted(containers)}"


def _setters(*, pod: bool, containers: Collection[str]) -> str:
    """The pod and containers that set a field, as messages name them; empty if none did."""
    return " and ".join([*(["pod"] if pod else []), *([_named(containers)] if containers else [])])


def _but_windows(rule: Rule) -> Rule:
    """The rule for pods that do not say they are Windows pods, which cannot set what it asks for."""

    def without(metadata: Spec, spec: Spec) -> Violation | None:
        return None if (spec.get("os") or {}).get("name") == "windows" else rule(metadata, spec)

    return without


# --- baseline


def _privileged(_metadata: Spec, spec: Spec) -> Violation | None:
    bad = [name for name, _, context in _containers(spec) if context.get("privileged")]
    return (
        Violation("privileged", f"{_named(bad)} must not set securityContext.privileged=true")
        if bad
        else None
    )


def _host_namespaces(_metadata: Spec, spec: Spec) -> Violation | None:
    shared = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Violation("host namespaces", ", ".join(shared)) if shared else None


def _host_path_volumes(_metadata: Spec, spec: Spec) -> Violation | None:
    bad = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Violation("hostPath volumes", f"{_plural('volume', len(bad))} {_quoted(bad)}") if bad else None


def _host_ports(_metadata: Spec, spec: Spec) -> Violation | None:
    used = _each(spec, lambda container, _: _host_ports_of(container))
    bad = [name for name, ports in used if ports]
    if not bad:
        return None
    ports = _union(used)
    verb = "uses" if len(bad) == 1 else "use"
    return Violation("hostPort", f"{_named(bad)} {verb} {_plural('hostPort', len(ports))} {', '.join(ports)}")


def _host_ports_of(container: Spec) -> list[str]:
    return [str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")]


def _probe_hosts(_metadata: Spec, spec: Spec) -> Violation | None:
    used = _each(spec, lambda container, _: list(_hosts(container)))
    bad = sorted({name for name, hosts in used if hosts})
    if not bad:
        return None
    hosts = _union(used)
    verb, noun = "uses" if len(bad) == 1 else "use", _plural("probe or lifecycle host", len(hosts))
    return Violation("probe or lifecycle host", f"{_named(bad)} {verb} {noun} {_quoted(hosts)}")


def _hosts(container: Spec) -> Iterator[str]:
    """The `host` of each probe and hook but the pod itself: the node would connect to it."""
    lifecycle = container.get("lifecycle") or {}
    handlers = [container.get(probe) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += [lifecycle.get(hook) for hook in ("postStart", "preStop")]
    for handler in handlers:
        for action in ("httpGet", "tcpSocket"):
            host = ((handler or {}).get(action) or {}).get("host")
            if host:
                yield host


_DEFAULT_CAPABILITIES: Final = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)


def _capabilities(context: Spec, field: str) -> list[str]:
    return list((context.get("capabilities") or {}).get(field) or ())


def _added(spec: Spec, allowed: Collection[str]) -> str:
    """Who adds capabilities beyond the allowed ones, in words, or nothing."""
    beyond = _each(spec, lambda _, context: set(_capabilities(context, "add")) - set(allowed))
    bad = [name for name, capabilities in beyond if capabilities]
    detail = f"{_named(bad)} must not include {_quoted(_union(beyond))} in securityContext.capabilities.add"
    return detail if bad else ""


def _capabilities_baseline(_metadata: Spec, spec: Spec) -> Violation | None:
    beyond = _added(spec, _DEFAULT_CAPABILITIES)
    return Violation("non-default capabilities", beyond) if beyond else None


def _proc_mount(_metadata: Spec, spec: Spec) -> Violation | None:
    kinds = _each(spec, lambda _, context: context.get("procMount"))
    bad = [(name, str(kind)) for name, kind in kinds if kind not in (None, "Default")]
    names, values = [name for name, _ in bad], sorted({kind for _, kind in bad})
    detail = f"{_named(names)} must not set securityContext.procMount to {_quoted(values)}"
    return Violation("procMount", detail) if bad else None


def _host_process(_metadata: Spec, spec: Spec) -> Violation | None:
    def sets(context: Spec) -> bool:
        return bool((context.get("windowsOptions") or {}).get("hostProcess"))

    bad = [name for name, _, context in _containers(spec) if sets(context)]
    setters = _setters(pod=sets(_pod_context(spec)), containers=bad)
    detail = f"{setters} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail) if setters else None


_APP_ARMOR_ANNOTATION: Final = "container.apparmor.security.beta.kubernetes.io/"


def _app_armor(metadata: Spec, spec: Spec) -> Violation | None:
    pod_value, values = _profile_types(spec, "appArmorProfile")
    bad_pod = pod_value not in _PROFILES_OR_NONE
    bad = [name for name, value in values if value not in _PROFILES_OR_NONE]
    profiles = _other_profiles(pod_value, values)
    annotations = sorted(
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APP_ARMOR_ANNOTATION)
        and not (value in ("", "runtime/default") or value.startswith("localhost/"))
    )
    setters = [_setters(pod=bad_pod, containers=bad)] if bad_pod or bad else []
    setters += [_plural("annotation", len(annotations))] if annotations else []
    if not setters:
        return None
    profiles += annotations
    detail = f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(profiles)}"
    return Violation(_plural("forbidden AppArmor profile", len(profiles)), detail)


_PROFILES_OR_NONE: Final = (None, "RuntimeDefault", "Localhost")


def _other_profiles(pod_value: str | None, values: list[tuple[str, str | None]]) -> list[str]:
    every = {pod_value, *(value for _, value in values)}
    return sorted(str(value) for value in every if value not in _PROFILES_OR_NONE)


def _profile_types(spec: Spec, field: str) -> tuple[str | None, list[tuple[str, str | None]]]:
    """The `type` of a profile of the pod, and those of its containers; None where there is no profile."""

    def kind(context: Spec) -> str | None:
        profile = context.get(field)
        return None if profile is None else str(profile.get("type") or "")

    return kind(_pod_context(spec)), _each(spec, lambda _, context: kind(context))


_SE_LINUX_TYPES: Final = ("", "container_t", "container_init_t", "container_kvm_t")


def _se_linux(*more_types: str) -> Rule:
    allowed = (*_SE_LINUX_TYPES, *more_types)

    def wrong(options: Spec) -> bool:
        is_type = (options.get("type") or "") in allowed
        return not is_type or bool(options.get("user")) or bool(options.get("role"))

    def rule(_metadata: Spec, spec: Spec) -> Violation | None:
        own = _pod_context(spec).get("seLinuxOptions") or {}
        each: list[tuple[str, Spec]] = _each(spec, lambda _, context: context.get("seLinuxOptions") or {})
        bad = [name for name, options in each if wrong(options)]
        setters = _setters(pod=wrong(own), containers=bad)
        if not setters:
            return None
        every = [own, *(options for _, options in each)]
        types = sorted({kind for options in every if (kind := options.get("type") or "") not in allowed})
        detail = [f"{_plural('type', len(types))} {_quoted(types)}"] if types else []
        detail += [
            f"{field} may not be set" for field in ("user", "role") if any(o.get(field) for o in every)
        ]
        return Violation(
            "seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(detail)}"
        )

    return rule


_SECCOMP_ANNOTATION: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER_ANNOTATION: Final = "container.seccomp.security.alpha.kubernetes.io/"


def _seccomp_annotations(metadata: Spec, spec: Spec) -> Violation | None:
    annotations = metadata.get("annotations") or {}
    keys = [_SECCOMP_ANNOTATION, *(_SECCOMP_CONTAINER_ANNOTATION + name for name, _, _ in _containers(spec))]
    bad = sorted(
        {
            f"{key}={json.dumps(annotations[key], ensure_ascii=False)}"
            for key in keys
            if key in annotations
            and annotations[key] not in ("runtime/default", "docker/default")
            and not annotations[key].startswith("localhost/")
        }
    )
    detail = f"forbidden {_plural('annotation', len(bad))} {', '.join(bad)}"
    return Violation("seccompProfile", detail) if bad else None


def _seccomp(_metadata: Spec, spec: Spec) -> Violation | None:
    pod_value, values = _profile_types(spec, "seccompProfile")
    bad_pod = pod_value not in _PROFILES_OR_NONE
    bad = [name for name, value in values if value not in _PROFILES_OR_NONE]
    if not bad_pod and not bad:
        return None
    profiles = _other_profiles(pod_value, values)
    setters = _setters(pod=bad_pod, containers=bad)
    detail = f"{setters} must not set securityContext.seccompProfile.type to {_quoted(profiles)}"
    return Violation("seccompProfile", detail)


_SYSCTLS: Final = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
)
_SYSCTLS_27: Final = (*_SYSCTLS, "net.ipv4.ip_local_reserved_ports")
_SYSCTLS_29: Final = (
    *_SYSCTLS_27,
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
)
_SYSCTLS_32: Final = (*_SYSCTLS_29, "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")


def _sysctls(allowed: Collection[str]) -> Rule:
    def rule(_metadata: Spec, spec: Spec) -> Violation | None:
        names = [sysctl.get("name") or "" for sysctl in _pod_context(spec).get("sysctls") or ()]
        bad = [name for name in names if name not in allowed]
        return Violation("forbidden sysctls", ", ".join(bad)) if bad else None

    return rule


# --- restricted


def _escalation(_metadata: Spec, spec: Spec) -> Violation | None:
    bad = [n for n, _, context in _containers(spec) if context.get("allowPrivilegeEscalation") is not False]
    detail = f"{_named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail) if bad else None


def _capabilities_restricted(_metadata: Spec, spec: Spec) -> Violation | None:
    keeping = [n for n, _, context in _containers(spec) if "ALL" not in _capabilities(context, "drop")]
    detail = [f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]'] if keeping else []
    if beyond := _added(spec, ("NET_BIND_SERVICE",)):
        detail.append(beyond)
    return Violation("unrestricted capabilities", "; ".join(detail)) if detail else None


_VOLUMES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_OTHER_VOLUMES: Final = (
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
)


def _volumes(_metadata: Spec, spec: Spec) -> Violation | None:
    bad, kinds = [], set()
    for volume in spec.get("volumes") or ():
        present = {field for field, value in volume.items() if field != "name" and value is not None}
        if not present & _VOLUMES:
            bad.append(volume["name"])
            kinds.add(next((kind for kind in _OTHER_VOLUMES if kind in present), "unknown"))
    if not bad:
        return None
    verb, noun = "uses" if len(bad) == 1 else "use", _plural("restricted volume type", len(kinds))
    detail = f"{_plural('volume', len(bad))} {_quoted(bad)} {verb} {noun} {_quoted(sorted(kinds))}"
    return Violation("restricted volume types", detail)


def _non_root(_metadata: Spec, spec: Spec) -> Violation | None:
    own = _pod_context(spec).get("runAsNonRoot")
    each = _each(spec, lambda _, context: context.get("runAsNonRoot"))
    setters = _setters(pod=own is False, containers=[n for n, value in each if value is False])
    if setters:
        return Violation("runAsNonRoot != true", f"{setters} must not set securityContext.runAsNonRoot=false")
    silent = [name for name, value in each if value is None and not own]
    detail = f"pod or {_named(silent)} must set securityContext.runAsNonRoot=true"
    return Violation("runAsNonRoot != true", detail) if silent else None


def _user(_metadata: Spec, spec: Spec) -> Violation | None:
    bad = [name for name, _, context in _containers(spec) if context.get("runAsUser") == 0]
    setters = _setters(pod=_pod_context(spec).get("runAsUser") == 0, containers=bad)
    return Violation("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _seccomp_restricted(metadata: Spec, spec: Spec) -> Violation | None:
    if violation := _seccomp(metadata, spec):
        return violation
    own, each = _profile_types(spec, "seccompProfile")
    silent = [name for name, value in each if value is None and own is None]
    field = "securityContext.seccompProfile.type"
    detail = f'pod or {_named(silent)} must set {field} to "RuntimeDefault" or "Localhost"'
    return Violation("seccompProfile", detail) if silent else None


CHECKS: Final = (
    Check("appArmorProfile", BASELINE, ((0, _app_armor),)),
    Check("capabilities_baseline", BASELINE, ((0, _capabilities_baseline),)),
    Check("hostNamespaces", BASELINE, ((0, _host_namespaces),)),
    Check("hostPathVolumes", BASELINE, ((0, _host_path_volumes),)),
    Check("hostPorts", BASELINE, ((0, _host_ports),)),
    Check("hostProbesAndHostLifecycle", BASELINE, ((34, _probe_hosts),)),
    Check("privileged", BASELINE, ((0, _privileged),)),
    Check("procMount", BASELINE, ((0, _proc_mount),)),
    Check("seLinuxOptions", BASELINE, ((0, _se_linux()), (31, _se_linux("container_engine_t")))),
    Check("seccompProfile_baseline", BASELINE, ((0, _seccomp_annotations), (19, _seccomp))),
    Check(
        "sysctls",
        BASELINE,
        (
            (0, _sysctls(_SYSCTLS)),
            (27, _sysctls(_SYSCTLS_27)),
            (29, _sysctls(_SYSCTLS_29)),
            (32, _sysctls(_SYSCTLS_32)),
        ),
    ),
    Check("windowsHostProcess", BASELINE, ((0, _host_process),)),
    Check("allowPrivilegeEscalation", RESTRICTED, ((8, _escalation), (25, _but_windows(_escalation)))),
    Check(
        "capabilities_restricted",
        RESTRICTED,
        ((22, _capabilities_restricted), (25, _but_windows(_capabilities_restricted))),
        "capabilities_baseline",
    ),
    Check("restrictedVolumes", RESTRICTED, ((0, _volumes),), "hostPathVolumes"),
    Check("runAsNonRoot", RESTRICTED, ((0, _non_root),)),
    Check("runAsUser", RESTRICTED, ((23, _user),)),
    Check(
        "seccompProfile_restricted",
        RESTRICTED,
        ((19, _seccomp_restricted), (25, _but_windows(_seccomp_restricted))),
        "seccompProfile_baseline",
    ),
)

"""Which kernel parameters a pod may set (pure): those of its own namespaces, and of these the safe ones.

Safe, as the kubelet of Kubernetes 1.34 has it, are parameters that are the pod's alone and harm no other
pod. An administrator may allow more that the kernel keeps per namespace, by name or by a pattern that
ends in `*`. What the kernel keeps once for the machine is never a pod's to set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from ondol.api import objects, sysctls
from ondol.node.pods.model import Spec

REASON: Final = "SysctlForbidden"
# With the Linux version from which on each is kept per network namespace.
_SAFE: Final[Mapping[str, tuple[int, int]]] = {
    "kernel.shm_rmid_forced": (0, 0),
    "net.ipv4.ip_local_port_range": (0, 0),
    "net.ipv4.ip_local_reserved_ports": (3, 16),
    "net.ipv4.ip_unprivileged_port_start": (0, 0),
    "net.ipv4.ping_group_range": (0, 0),
    "net.ipv4.tcp_fin_timeout": (4, 6),
    "net.ipv4.tcp_keepalive_intvl": (4, 5),
    "net.ipv4.tcp_keepalive_probes": (4, 5),
    "net.ipv4.tcp_keepalive_time": (4, 5),
    "net.ipv4.tcp_rmem": (4, 15),
    "net.ipv4.tcp_syncookies": (0, 0),
    "net.ipv4.tcp_wmem": (4, 15),
}
_SHARED: Final = {"net": "hostNetwork", "ipc": "hostIPC"}
_RELEASE: Final = re.compile(r"(\d+)\.(\d+)")


def of(pod: Spec) -> Iterator[tuple[str, str]]:
    """Names and values the pod asks for."""
    context: Mapping[str, Any] = objects.spec(pod).get("securityContext") or {}
    for sysctl in context.get("sysctls") or ():
        yield str(sysctl["name"]), str(sysctl.get("value") or "")


def forbidden(pod: Spec, allowed: Collection[str], kernel: str) -> str:
    """Why the pod may not run, in the kubelet's words; empty when all it sets is its own to set.

    `allowed` are names and patterns beyond the safe ones, `kernel` is the release as `uname -r` has it.
    """
    for name, _ in of(pod):
        problem = _problem(name, objects.spec(pod), allowed, _version(kernel))
        if problem:
            return f"forbidden sysctl: {problem}"
    return ""


def _problem(name: str, spec: Spec, allowed: Collection[str], version: tuple[int, int]) -> str:
    plain, kind = sysctls.dotted(name), sysctls.namespace(name)
    if not sysctls.is_valid(name) or kind is None or not _is_listed(plain, allowed, version):
        return f'"{plain}" not allowlisted'
    return f'"{plain}" not allowed with host {kind} enabled' if spec.get(_SHARED[kind]) else ""


def _is_listed(plain: str, allowed: Collection[str], version: tuple[int, int]) -> bool:
    if plain in _SAFE and version >= _SAFE[plain]:
        return True
    patterns = [sysctls.dotted(pattern) for pattern in allowed if sysctls.is_pattern(pattern)]
    return any(plain.startswith(p[:-1]) if p.endswith("*") else plain == p for p in patterns)


def _version(release: str) -> tuple[int, int]:
    numbers = _RELEASE.match(release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)

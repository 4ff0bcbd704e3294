"""Rules of security contexts: users, sysctls, seccomp profiles, privilege escalation, `/proc`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import sysctls
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base.errors import Cause

_MAX_INT32: Final = (1 << 31) - 1
_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_SHARED: Final = {"net": "hostNetwork", "ipc": "hostIPC"}


def of_pod(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """`path` is that of the security context."""
    context = spec.get("securityContext") or {}
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from fields.between(f"{path}.{field}", context.get(field), 0, _MAX_INT32)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        yield from fields.between(f"{path}.supplementalGroups[{index}]", group, 0, _MAX_INT32)
    yield from _sysctls(spec, context.get("sysctls") or (), f"{path}.sysctls")
    yield from _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")


def _sysctls(spec: Mapping[str, Any], listed: Any, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, sysctl in enumerate(listed):
        name_path, name = f"{path}[{index}].name", sysctl.get("name") or ""
        if not name:
            yield causes.required(name_path)
        elif not sysctls.is_valid(name):
            detail = f"must have at most {sysctls.MAX_LENGTH} characters and match regex {sysctls.FORM}"
            yield causes.invalid(name_path, name, detail)
        elif name in seen:
            yield causes.duplicate(name_path, name)
        else:
            shared = _SHARED.get(sysctls.namespace(name) or "", "")
            if shared and spec.get(shared):
                yield causes.invalid(name_path, name, f"may not be specified when '{shared}' is true")
        seen.add(name)


def of_container(context: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for field in ("runAsUser", "runAsGroup"):
        yield from fields.between(f"{path}.{field}", context.get(field), 0, _MAX_INT32)
    added = (context.get("capabilities") or {}).get("add") or ()
    if context.get("allowPrivilegeEscalation") is False:
        excess = [("`privileged` to true", context.get("privileged"))]
        excess += [("`capabilities.Add` CAP_SYS_ADMIN", "CAP_SYS_ADMIN" in added)]
        for setting, is_set in excess:
            if is_set:
                detail = f"cannot set `allowPrivilegeEscalation` to false and {setting}"
                yield causes.invalid(path, dict(context), detail)
    yield from fields.one_of(f"{path}.procMount", context.get("procMount"), ("Default", "Unmasked"))
    yield from _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")


def proc_mount(container: Mapping[str, Any], host_users: bool | None, path: str) -> Iterator[Cause]:
    """An unmasked /proc is the kernel's own to everyone but the root of a user namespace."""
    mount = (container.get("securityContext") or {}).get("procMount")
    if mount == "Unmasked" and host_users is not False:
        detail = "`hostUsers` must be false to use `Unmasked`"
        yield causes.invalid(f"{path}.securityContext.procMount", mount, detail)


def _seccomp(profile: Mapping[str, Any] | None, path: str) -> Iterator[Cause]:
    if profile is None:
        return
    kind, file = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        yield causes.required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        yield causes.not_supported(f"{path}.type", kind, _PROFILES)
    if kind == "Localhost":
        if not file:
            yield causes.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        yield from fields.inner_path(f"{path}.localhostProfile", file or "")
    elif file is not None:
        detail = "can only be set when seccomp type is Localhost"
        yield causes.invalid(f"{path}.localhostProfile", file, detail)

"""Rules of APIServices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base.errors import Cause

_GROUP_MAX: Final = 20000
_VERSION_MAX: Final = 1000


def api_service(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    group, version = spec.get("group") or "", spec.get("version") or ""
    name = f"{version}.{group}"
    if objects.name(obj) != name:
        detail = f'must be `spec.version+"."+spec.group`: "{name}"'
        yield causes.invalid("metadata.name", objects.name(obj), detail)
    if group:
        yield from fields.subdomain("spec.group", group)
    elif version != "v1":
        detail = "only v1 may have an empty group and it better be legacy kube"
        yield causes.required("spec.group", detail)
    yield from fields.label_1035("spec.version", version)
    for field, most in (("groupPriorityMinimum", _GROUP_MAX), ("versionPriority", _VERSION_MAX)):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            yield causes.invalid(f"spec.{field}", value, f"must be positive and less than {most}")
    yield from _remote(spec) if spec.get("service") is not None else _local(spec)


def _local(spec: Mapping[str, Any]) -> Iterator[Cause]:
    if spec.get("caBundle"):
        size = f"{len(spec['caBundle']) * 3 // 4 - spec['caBundle'].count('=')} bytes"
        yield causes.invalid("spec.caBundle", size, "local APIServices may not have a caBundle")
    if spec.get("insecureSkipTLSVerify"):
        detail = "local APIServices may not have insecureSkipTLSVerify"
        yield causes.invalid("spec.insecureSkipTLSVerify", True, detail)


def _remote(spec: Mapping[str, Any]) -> Iterator[Cause]:
    for field in ("namespace", "name"):
        if not spec["service"].get(field):
            yield causes.required(f"spec.service.{field}")
    port = spec["service"].get("port") or 0
    if not 1 <= port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        yield causes.invalid("spec.service.port", port, detail)
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        detail = "may not be true if caBundle is present"
        yield causes.invalid("spec.insecureSkipTLSVerify", True, detail)

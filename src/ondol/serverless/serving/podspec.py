"""What of a pod a revision may ask for: the fields that are open, those a feature opens, and their rules.

The fields and flags are Knative's (knative/serving `pkg/apis/serving/fieldmask.go`, `config-features`). What
is not open is refused where it stands, never dropped: a volume that lost its source would be an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base import comma_list
from ondol.base.errors import Cause
from ondol.serverless.serving.defaults import PROBE_KINDS

Document = Mapping[str, Any]

TAG_HEADER: Final = "tag-header-based-routing"

FEATURES: Final[Mapping[str, bool]] = {
    "multi-container": True,
    "multi-container-probing": False,
    "kubernetes.containerspec-addcapabilities": False,
    "kubernetes.podspec-affinity": False,
    "kubernetes.podspec-dnsconfig": False,
    "kubernetes.podspec-dnspolicy": False,
    "kubernetes.podspec-fieldref": False,
    "kubernetes.podspec-hostaliases": False,
    "kubernetes.podspec-hostipc": False,
    "kubernetes.podspec-hostnetwork": False,
    "kubernetes.podspec-hostpid": False,
    "kubernetes.podspec-init-containers": False,
    "kubernetes.podspec-nodeselector": False,
    "kubernetes.podspec-persistent-volume-claim": False,
    "kubernetes.podspec-persistent-volume-write": False,
    "kubernetes.podspec-priorityclassname": False,
    "kubernetes.podspec-runtimeclassname": False,
    "kubernetes.podspec-schedulername": False,
    "kubernetes.podspec-securitycontext": False,
    "kubernetes.podspec-shareprocessnamespace": False,
    "kubernetes.podspec-tolerations": False,
    "kubernetes.podspec-topologyspreadconstraints": False,
    "kubernetes.podspec-volumes-csi": False,
    "kubernetes.podspec-volumes-emptydir": True,
    "kubernetes.podspec-volumes-ephemeral": False,
    "kubernetes.podspec-volumes-hostpath": False,
    "kubernetes.podspec-volumes-image": False,
    "kubernetes.podspec-volumes-mount-propagation": False,
    TAG_HEADER: False,
}
"""Knative's feature flags that mean something here, and whether each is on when nobody says."""

DEFAULT_FEATURES: Final = frozenset(name for name, on in FEATURES.items() if on)


def features(text: str) -> frozenset[str]:
    """The flags that are on when the setting says so; `ValueError` names one that is not known.

    `kubernetes.podspec-nodeselector,-multi-container` turns one on and one off.
    """
    chosen = set(DEFAULT_FEATURES)
    for word in comma_list.items(text):
        name = word.removeprefix("-")
        if name not in FEATURES:
            raise ValueError(f"{name!r} is not a feature flag")
        if word == name:
            chosen.add(name)
        else:
            chosen.discard(name)
    return frozenset(chosen)


POD_FIELDS: Final = (
    "containers",
    "volumes",
    "serviceAccountName",
    "imagePullSecrets",
    "automountServiceAccountToken",
    "enableServiceLinks",
)
CONTAINER_FIELDS: Final = (
    "name",
    "image",
    "command",
    "args",
    "env",
    "envFrom",
    "ports",
    "resources",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
    "securityContext",
    "workingDir",
    "volumeMounts",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
)
VOLUME_FIELDS: Final = ("name", "configMap", "secret", "emptyDir", "projected")
_REVISION_FIELDS: Final = (
    "containerConcurrency",
    "timeoutSeconds",
    "responseStartTimeoutSeconds",
    "idleTimeoutSeconds",
)
_OPENED_IN_POD: Final = {
    "affinity": "kubernetes.podspec-affinity",
    "dnsConfig": "kubernetes.podspec-dnsconfig",
    "dnsPolicy": "kubernetes.podspec-dnspolicy",
    "hostAliases": "kubernetes.podspec-hostaliases",
    "hostIPC": "kubernetes.podspec-hostipc",
    "hostNetwork": "kubernetes.podspec-hostnetwork",
    "hostPID": "kubernetes.podspec-hostpid",
    "initContainers": "kubernetes.podspec-init-containers",
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
    "schedulerName": "kubernetes.podspec-schedulername",
    "securityContext": "kubernetes.podspec-securitycontext",
    "shareProcessNamespace": "kubernetes.podspec-shareprocessnamespace",
    "tolerations": "kubernetes.podspec-tolerations",
    "topologySpreadConstraints": "kubernetes.podspec-topologyspreadconstraints",
}
_OPENED_VOLUMES: Final = {
    "emptyDir": "kubernetes.podspec-volumes-emptydir",
    "persistentVolumeClaim": "kubernetes.podspec-persistent-volume-claim",
    "hostPath": "kubernetes.podspec-volumes-hostpath",
    "csi": "kubernetes.podspec-volumes-csi",
    "ephemeral": "kubernetes.podspec-volumes-ephemeral",
    "image": "kubernetes.podspec-volumes-image",
}
_SECURITY_FIELDS: Final = (
    "capabilities",
    "readOnlyRootFilesystem",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "allowPrivilegeEscalation",
    "seccompProfile",
)
_POD_SECURITY_FIELDS: Final = (
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "fsGroup",
    "supplementalGroups",
    "seccompProfile",
)
_FIELD_REFERENCES: Final = dict.fromkeys(("fieldRef", "resourceFieldRef"), "kubernetes.podspec-fieldref")
_PROPAGATION: Final = {"mountPropagation": "kubernetes.podspec-volumes-mount-propagation"}
_CAPABILITIES: Final = {"add": "kubernetes.containerspec-addcapabilities"}
_WRITE: Final = "kubernetes.podspec-persistent-volume-write"
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PORT_NAMES: Final = ("", "http1", "h2c")
_RESERVED_PORTS: Final = frozenset({8008, 8012, 8013, 8022, 9090, 9091})
_RESERVED_ENV: Final = frozenset({"K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
_RESERVED_PATHS: Final = frozenset({"/", "/dev", "/dev/log"})
_RESERVED_NAME: Final = "queue-proxy"
_IMAGE: Final = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9_./-]+(?::[A-Za-z0-9_.-]{1,128})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?"
)


def problems(spec: Document, path: str, on: frozenset[str]) -> Iterator[Cause]:
    """Everything a revision's spec asks for in vain or against the rules, by the place where it stands."""
    yield from _masked(spec, path, (*POD_FIELDS, *_REVISION_FIELDS), on, _OPENED_IN_POD)
    if spec.get("automountServiceAccountToken") is True:
        yield causes.forbidden(f"{path}.automountServiceAccountToken", "may only be false")
    account = str(spec.get("serviceAccountName") or "")
    if any(fields.subdomain("", account)) and account:
        where = f"{path}.serviceAccountName"
        # In Knative's form of a mistake, value and path before the reason: clients look for it.
        yield Cause("FieldValueInvalid", f"Invalid value: {account}: {where}\n{fields.SUBDOMAIN}", where)
    security = spec.get("securityContext") or {}
    if _OPENED_IN_POD["securityContext"] in on:
        yield from _masked(security, f"{path}.securityContext", _POD_SECURITY_FIELDS)
    yield from _volumes(spec, path, on)
    yield from _ports(spec, path)
    containers = spec.get("containers") or ()
    if len(containers) > 1 and "multi-container" not in on:
        yield causes.forbidden(f"{path}.containers", _closed("multi-container"))
    for number, container in enumerate(containers):
        serves = len(containers) == 1 or bool(container.get("ports"))
        where = f"{path}.containers[{number}]"
        yield from _container(container, where, spec, on, serves=serves)
        yield from _probes(container, where, on, serves=serves)
    for number, container in enumerate(spec.get("initContainers") or ()):
        where = f"{path}.initContainers[{number}]"
        yield from _container(container, where, spec, on, serves=False)
        for probe in _PROBES:
            if container.get(probe):
                yield causes.forbidden(f"{where}.{probe}", "must not be set in an init container")


def _masked(
    part: Document,
    path: str,
    allowed: tuple[str, ...],
    on: frozenset[str] = frozenset(),
    opened: Mapping[str, str] | None = None,
) -> Iterator[Cause]:
    """The fields that ask for something and may not; empty ones ask for nothing."""
    for field, value in part.items():
        feature = (opened or {}).get(field)
        if not value or field in allowed or feature in on:
            continue
        yield causes.forbidden(f"{path}.{field}", _closed(feature) if feature else "must not be set")


def _closed(feature: str) -> str:
    return f"must not be set while the feature {feature} is off (ConfigMap config-features)"


def _volumes(spec: Document, path: str, on: frozenset[str]) -> Iterator[Cause]:
    mounted = {
        mount.get("name")
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        for mount in container.get("volumeMounts") or ()
    }
    for number, volume in enumerate(spec.get("volumes") or ()):
        where = f"{path}.volumes[{number}]"
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        for source in sources:
            feature = _OPENED_VOLUMES.get(source)
            if feature is None and source not in VOLUME_FIELDS:
                yield causes.forbidden(f"{where}.{source}", "must not be set")
            elif feature is not None and feature not in on:
                yield causes.forbidden(f"{where}.{source}", _closed(feature))
        if not sources:
            listed = ", ".join(VOLUME_FIELDS[1:])
            yield causes.required(where, f"expected exactly one of {listed}")
        claim = volume.get("persistentVolumeClaim") or {}
        if claim and not claim.get("readOnly") and _WRITE not in on:
            yield causes.forbidden(f"{where}.persistentVolumeClaim.readOnly", _closed(_WRITE))
        if volume.get("name") not in mounted:
            yield causes.invalid(f"{where}.name", volume.get("name"), "no container mounts this volume")


def _ports(spec: Document, path: str) -> Iterator[Cause]:
    containers = spec.get("containers") or ()
    declared = [
        (f"{path}.containers[{c}].ports[{p}]", port)
        for c, container in enumerate(containers)
        for p, port in enumerate(container.get("ports") or ())
    ]
    if len(containers) > 1 and not declared:
        yield causes.required(f"{path}.containers", "the container that serves must have a port")
    for where, _ in declared[1:]:
        yield causes.forbidden(where, "only a single port is allowed across all containers")
    for where, port in declared:
        yield from _masked(port, where, ("containerPort", "name", "protocol"))
        if (port.get("name") or "") not in _PORT_NAMES:
            yield causes.not_supported(f"{where}.name", port["name"], _PORT_NAMES)
        if (port.get("protocol") or "TCP") != "TCP":
            yield causes.not_supported(f"{where}.protocol", port["protocol"], ("TCP",))
        number = port.get("containerPort") or 0
        if number in _RESERVED_PORTS:
            yield causes.invalid(f"{where}.containerPort", number, "is a reserved port; use another")
        elif not 0 <= number <= 65535:
            yield causes.invalid(f"{where}.containerPort", number, "must be between 0 and 65535, inclusive")


def _container(
    container: Document, path: str, spec: Document, on: frozenset[str], *, serves: bool
) -> Iterator[Cause]:
    yield from _masked(container, path, CONTAINER_FIELDS)
    if container.get("name") == _RESERVED_NAME:
        yield causes.invalid(f"{path}.name", _RESERVED_NAME, "is a reserved container name")
    image = str(container.get("image") or "")
    if image and _IMAGE.fullmatch(image) is None:
        yield causes.invalid(f"{path}.image", image, "is not an image reference")
    yield from _environment(container, path, on, serves=serves)
    yield from _masked(container.get("resources") or {}, f"{path}.resources", ("limits", "requests"))
    security = container.get("securityContext") or {}
    yield from _masked(security, f"{path}.securityContext", _SECURITY_FIELDS)
    capabilities = security.get("capabilities") or {}
    where = f"{path}.securityContext.capabilities"
    yield from _masked(capabilities, where, ("drop",), on, _CAPABILITIES)
    yield from _mounts(container, path, spec, on)


def _environment(container: Document, path: str, on: frozenset[str], *, serves: bool) -> Iterator[Cause]:
    reserved = _RESERVED_ENV | ({"PORT"} if serves else set())
    for number, variable in enumerate(container.get("env") or ()):
        where = f"{path}.env[{number}]"
        if variable.get("name") in reserved:
            yield causes.forbidden(f"{where}.name", f"{variable['name']} is a reserved environment variable")
        source = variable.get("valueFrom") or {}
        allowed = ("configMapKeyRef", "secretKeyRef")
        yield from _masked(source, f"{where}.valueFrom", allowed, on, _FIELD_REFERENCES)


def _mounts(container: Document, path: str, spec: Document, on: frozenset[str]) -> Iterator[Cause]:
    volumes = {volume.get("name"): volume for volume in spec.get("volumes") or ()}
    for number, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}.volumeMounts[{number}]"
        allowed = ("name", "readOnly", "mountPath", "subPath")
        yield from _masked(mount, where, allowed, on, _PROPAGATION)
        target = str(mount.get("mountPath") or "")
        if (target.rstrip("/") or target[:1]) in _RESERVED_PATHS:
            yield causes.forbidden(f"{where}.mountPath", f"{target} is a reserved path")
        elif target and not target.startswith("/"):
            yield causes.invalid(f"{where}.mountPath", target, "must be an absolute path")
        claim = (volumes.get(mount.get("name")) or {}).get("persistentVolumeClaim") or {}
        if claim.get("readOnly") and not mount.get("readOnly"):
            yield causes.invalid(f"{where}.readOnly", False, "the volume can only be read")


def _probes(container: Document, path: str, on: frozenset[str], *, serves: bool) -> Iterator[Cause]:
    free = "multi-container-probing" in on
    ports = container.get("ports") or [{}]
    own = (ports[0].get("containerPort") or 8080, ports[0].get("name") or "http")
    for name in _PROBES:
        probe, where = container.get(name), f"{path}.{name}"
        if probe is None:
            continue
        if not serves and not free:
            yield causes.forbidden(where, _closed("multi-container-probing"))
            continue
        yield from _handler(probe, where, own if serves else None, free=free)
        if name == "readinessProbe":
            yield from _readiness(probe, where)


def _handler(probe: Document, path: str, own: tuple[int, str] | None, *, free: bool) -> Iterator[Cause]:
    """One way to probe, at the port of the container; `own` is its number and name, if it serves."""
    kinds = [kind for kind in PROBE_KINDS if probe.get(kind) is not None]
    if len(kinds) != 1:
        yield causes.invalid(path, kinds, f"expected exactly one of {', '.join(PROBE_KINDS)}")
    for kind in kinds:
        port = probe[kind].get("port") or 0 if kind != "exec" else None
        where = f"{path}.{kind}.port"
        if own is None and port == 0:
            yield causes.invalid(where, port, "Probe port must be specified")
        elif own is not None and kind != "exec" and port not in (0, *own, port if free else 0):
            yield causes.invalid(where, port, "Probe port must match container port")


def _readiness(probe: Document, path: str) -> Iterator[Cause]:
    """Without a period it is tried as often as need be, so nothing can be counted in periods."""
    for field in ("periodSeconds", "initialDelaySeconds"):
        if int(probe.get(field) or 0) < 0:
            yield causes.invalid(f"{path}.{field}", probe[field], "must be greater than or equal to 0")
    if not probe.get("periodSeconds"):
        for field in ("failureThreshold", "timeoutSeconds"):
            if probe.get(field):
                yield causes.forbidden(f"{path}.{field}", "is disallowed when periodSeconds is zero")

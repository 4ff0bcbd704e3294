"""Rules of containers: images, ports, environment, mounts, resources, probes, hooks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from ondol.api import labels as selectors
from ondol.api.schema import causes
from ondol.api.validation import fields, security
from ondol.base import quantity
from ondol.base.errors import Cause

_ENV_NAME: Final = re.compile(r"[ -<>-~]+")
_ENV_NAME_WORDS: Final = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)
_FIELD_PATHS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_PODS_OWN: Final = ("spec.restartPolicy", "spec.schedulerName", "status.phase")
"""Fields of a pod that `fieldRef` cannot refer to."""
_FIELD_KEYS: Final = re.compile(r"metadata\.(?:labels|annotations)\['[^']+'\]")
_RESOURCE_FIELDS: Final = re.compile(r"(?:limits|requests)\.(?:cpu|memory|ephemeral-storage|hugepages-.+)")
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_STANDARD: Final = ("cpu", "memory", "ephemeral-storage")
_WHOLE: Final = re.compile(r"\d+")


def check(container: Mapping[str, Any], path: str, volumes: Collection[str]) -> Iterator[Cause]:
    """What every container must be, whatever its place in the pod."""
    name = container.get("name") or ""
    if name:
        yield from fields.label(f"{path}.name", name)
    else:
        yield causes.required(f"{path}.name")
    if not container.get("image"):
        yield causes.required(f"{path}.image")
    policy = container.get("imagePullPolicy")
    yield from fields.one_of(
        f"{path}.imagePullPolicy", policy, ("Always", "IfNotPresent", "Never"), required=True
    )
    policy = container.get("terminationMessagePolicy")
    yield from fields.one_of(
        f"{path}.terminationMessagePolicy", policy, ("FallbackToLogsOnError", "File"), required=True
    )
    yield from _ports(container.get("ports") or (), f"{path}.ports")
    yield from _environment(container, path)
    yield from _mounts(container, f"{path}.volumeMounts", volumes)
    yield from resources(container.get("resources") or {}, f"{path}.resources")
    yield from security.of_container(container.get("securityContext") or {}, f"{path}.securityContext")


def running(container: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """What holds for containers that stay: probes and hooks."""
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is not None:
            yield from _probe(probe, f"{path}.{name}")
            if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                yield causes.invalid(
                    f"{path}.{name}.successThreshold", probe["successThreshold"], "must be 1"
                )
    for name, hook in (container.get("lifecycle") or {}).items():
        if isinstance(hook, dict):
            yield from _handler(hook, f"{path}.lifecycle.{name}", ("exec", "httpGet", "sleep", "tcpSocket"))


_RULES_MAX: Final = 20
_CODES_MAX: Final = 255


def restarts(container: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """The container's own restart policy, and its rules of exit codes, which need one."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    if policy is None and rules:
        yield causes.required(
            f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"
        )
    elif policy is not None and policy not in ("Always", "Never", "OnFailure"):
        yield causes.not_supported(f"{path}.restartPolicy", policy, ("Always", "Never", "OnFailure"))
    if len(rules) > _RULES_MAX:
        yield causes.too_many(f"{path}.restartPolicyRules", len(rules), _RULES_MAX)
    for index, rule in enumerate(rules):
        item_path = f"{path}.restartPolicyRules[{index}]"
        if rule.get("action") != "Restart":
            yield causes.not_supported(f"{item_path}.action", rule.get("action") or "", ("Restart",))
        codes = rule.get("exitCodes")
        if codes is None:
            yield causes.required(f"{item_path}.exitCodes", "must be specified")
            continue
        operator = codes.get("operator") or ""
        if operator not in ("In", "NotIn"):
            yield causes.not_supported(f"{item_path}.exitCodes.operator", operator, ("In", "NotIn"))
        if len(codes.get("values") or ()) > _CODES_MAX:
            yield causes.too_many(f"{item_path}.exitCodes.values", len(codes["values"]), _CODES_MAX)


_RESIZES: Final = ("NotRequired", "RestartContainer")


def resize_policies(policies: Any, path: str, pod_restarts: Any) -> Iterator[Cause]:
    """Whether a change of size restarts the container, said once of each resource that can be changed."""
    seen: set[Any] = set()
    for index, policy in enumerate(policies):
        name, restarts = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            yield causes.duplicate(f"{path}[{index}]", name)
        seen.add(name)
        yield from fields.one_of(path, name, ("cpu", "memory"), required=True)
        yield from fields.one_of(path, restarts, _RESIZES, required=True)
        if pod_restarts == "Never" and restarts != "NotRequired":
            yield causes.invalid(path, restarts, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")


def _ports(ports: Any, path: str) -> Iterator[Cause]:
    yield from fields.unique(path, ((i, p["name"]) for i, p in enumerate(ports) if p.get("name")), "name")
    for index, port in enumerate(ports):
        item_path = f"{path}[{index}]"
        if port.get("name"):
            yield from fields.port_name(f"{item_path}.name", port["name"])
        if not port.get("containerPort"):
            yield causes.required(f"{item_path}.containerPort")
        else:
            yield from fields.port(f"{item_path}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from fields.port(f"{item_path}.hostPort", port["hostPort"])
        yield from fields.one_of(
            f"{item_path}.protocol", port.get("protocol"), fields.PROTOCOLS, required=True
        )


def _environment(container: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for index, variable in enumerate(container.get("env") or ()):
        item_path = f"{path}.env[{index}]"
        name = variable.get("name") or ""
        if not name:
            yield causes.required(f"{item_path}.name")
        elif not _ENV_NAME.fullmatch(name):
            yield causes.invalid(f"{item_path}.name", name, _ENV_NAME_WORDS)
        if variable.get("valueFrom") is not None:
            yield from _value_from(variable, f"{item_path}.valueFrom")
    for index, source in enumerate(container.get("envFrom") or ()):
        item_path = f"{path}.envFrom[{index}]"
        present = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        if not present:
            yield causes.invalid(item_path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(present) > 1:
            yield causes.invalid(item_path, "", "may not have more than one field specified at a time")
        elif not source[present[0]].get("name"):
            yield causes.required(f"{item_path}.{present[0]}.name")


def _value_from(variable: Mapping[str, Any], path: str) -> Iterator[Cause]:
    source = variable["valueFrom"]
    present = [kind for kind in _SOURCES if source.get(kind) is not None]
    if "fieldRef" in present:
        yield from field_ref(source["fieldRef"], f"{path}.fieldRef")
    if "resourceFieldRef" in present:
        yield from resource_field_ref(source["resourceFieldRef"], f"{path}.resourceFieldRef")
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in present:
            yield from _key_ref(source[kind], f"{path}.{kind}")
    if "fileKeyRef" in present:
        yield from _file_key(source["fileKeyRef"], f"{path}.fileKeyRef")
    if not present:
        listed = ", ".join(f"`{kind}`" for kind in _SOURCES)
        yield causes.invalid(path, "", f"must specify one of: {listed}")
    elif variable.get("value"):
        yield causes.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(present) > 1:
        yield causes.invalid(path, "", "may not have more than one field specified at a time")


def _key_ref(ref: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if not ref.get("name"):
        yield causes.required(f"{path}.name")
    if not ref.get("key"):
        yield causes.required(f"{path}.key")
    else:
        yield from fields.key(f"{path}.key", ref["key"])


def _file_key(ref: Mapping[str, Any], path: str) -> Iterator[Cause]:
    key, volume, file = (ref.get(field) or "" for field in ("key", "volumeName", "path"))
    if not key:
        yield causes.required(f"{path}.key")
    elif not _ENV_NAME.fullmatch(key):
        yield causes.invalid(f"{path}.key", key, _ENV_NAME_WORDS)
    if not volume:
        yield causes.required(f"{path}.volumeName")
    else:
        yield from fields.label(f"{path}.volumeName", volume)
    if not file:
        yield causes.required(f"{path}.path")
    elif ".." in file.split("/"):
        yield causes.invalid(f"{path}.path", file, "must not contain '..'")


_RECURSIVE: Final = ("Disabled", "Enabled", "IfPossible")


def _recursive(mount: Mapping[str, Any], path: str) -> Iterator[Cause]:
    mode = mount.get("recursiveReadOnly")
    if mode in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            yield causes.forbidden(path, "may only be specified when readOnly is true")
        if (mount.get("mountPropagation") or "None") != "None":
            detail = "may only be specified when mountPropagation is None or not specified"
            yield causes.forbidden(path, detail)
    elif mode is not None and mode != "Disabled":
        yield causes.not_supported(path, mode, _RECURSIVE)


def field_ref(ref: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """A reference to a field of the pod, from the environment or the downward API."""
    field = ref.get("fieldPath") or ""
    if not field:
        yield causes.required(f"{path}.fieldPath")
    elif field not in _FIELD_PATHS and not _FIELD_KEYS.fullmatch(field):
        if field in ("metadata.labels", "metadata.annotations"):
            return
        if field in _PODS_OWN:
            yield causes.not_supported(f"{path}.fieldPath", field, _FIELD_PATHS)
        else:
            detail = f"error converting fieldPath: field label not supported: {field}"
            yield causes.invalid(f"{path}.fieldPath", field, detail)


def resource_field_ref(ref: Mapping[str, Any], path: str) -> Iterator[Cause]:
    resource = ref.get("resource") or ""
    if not resource:
        yield causes.required(f"{path}.resource")
    elif not _RESOURCE_FIELDS.fullmatch(resource):
        allowed = [f"{kind}.{standard}" for kind in ("limits", "requests") for standard in _STANDARD]
        yield causes.not_supported(f"{path}.resource", resource, allowed)


def _mounts(container: Mapping[str, Any], path: str, volumes: Collection[str]) -> Iterator[Cause]:
    seen = set()
    is_privileged = (container.get("securityContext") or {}).get("privileged")
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        item_path = f"{path}[{index}]"
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield causes.required(f"{item_path}.name")
        elif name not in volumes:
            yield causes.not_found(f"{item_path}.name", name)
        if not target:
            yield causes.required(f"{item_path}.mountPath")
        if target in seen:
            yield causes.invalid(f"{item_path}.mountPath", target, "must be unique")
        seen.add(target)
        for field in ("subPath", "subPathExpr"):
            yield from fields.inner_path(f"{item_path}.{field}", mount.get(field) or "")
        if mount.get("subPath") and mount.get("subPathExpr"):
            detail = "subPathExpr and subPath are mutually exclusive"
            yield causes.invalid(f"{item_path}.subPathExpr", mount["subPathExpr"], detail)
        if mount.get("mountPropagation") == "Bidirectional" and not is_privileged:
            detail = "Bidirectional mount propagation is available only to privileged containers"
            yield causes.forbidden(f"{item_path}.mountPropagation", detail)
        yield from _recursive(mount, f"{item_path}.recursiveReadOnly")


def resources(requirements: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Amounts not below zero, whole where the resource comes in pieces, requests within limits."""
    limits, requests = requirements.get("limits") or {}, requirements.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            item_path = f"{path}.{kind}[{name}]" if "." in name or "/" in name else f"{path}.{kind}.{name}"
            yield from resource_name(item_path, name)
            if amount.startswith("-"):
                yield causes.invalid(item_path, amount, "must be greater than or equal to 0")
            elif "/" in name and not _WHOLE.fullmatch(amount) and quantity.parse(amount).denominator != 1:
                yield causes.invalid(item_path, amount, "must be an integer")
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is None or amount == limit:
            if limit is None and "/" in name:
                yield causes.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
            continue
        if quantity.parse(amount) > quantity.parse(limit):
            detail = f"must be less than or equal to {name} limit of {limit}"
            yield causes.invalid(f"{path}.requests", amount, detail)
        elif "/" in name:
            yield causes.invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limit}")


def resource_name(path: str, name: str) -> Iterator[Cause]:
    """A resource that containers may ask for."""
    yield from (causes.invalid(path, name, detail) for detail in selectors.label_key_problems(name))
    if (
        "/" not in name
        and name not in ("cpu", "memory", "ephemeral-storage")
        and not name.startswith("hugepages-")
    ):
        yield causes.invalid(path, name, "must be a standard resource for containers")


def _probe(probe: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from _handler(probe, path, _HANDLERS)
    for field in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        yield from fields.non_negative(f"{path}.{field}", probe.get(field))


def _handler(handler: Mapping[str, Any], path: str, kinds: tuple[str, ...]) -> Iterator[Cause]:
    present = [kind for kind in kinds if handler.get(kind) is not None]
    if not present:
        yield causes.required(path, "must specify a handler type")
    for kind in present[1:]:
        yield causes.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    if handler.get("exec") is not None and not handler["exec"].get("command"):
        yield causes.required(f"{path}.exec.command")
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if handler.get(kind) is not None:
            yield from fields.port_or_name(f"{path}.{kind}.port", handler[kind].get("port"))
    get = handler.get("httpGet")
    if get is not None:
        yield from fields.one_of(
            f"{path}.httpGet.scheme", get.get("scheme"), ("HTTP", "HTTPS"), required=True
        )
        for index, header in enumerate(get.get("httpHeaders") or ()):
            if not re.fullmatch(r"[-A-Za-z0-9!#$%&'*+.^_`|~]+", header.get("name") or ""):
                detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Name')"
                yield causes.invalid(f"{path}.httpGet.httpHeaders[{index}]", header.get("name") or "", detail)

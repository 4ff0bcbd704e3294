"""Rules of pods and pod templates."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import dataplane, demand, objects
from ondol.api.schema import causes
from ondol.api.validation import containers, fields, metadata, security
from ondol.base import quantity
from ondol.base.errors import Cause

_RESTART: Final = ("Always", "Never", "OnFailure")
_DNS: Final = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_EFFECTS: Final = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_MAX_INT32: Final = (1 << 31) - 1
_MUTABLE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _captured(obj)
    yield from spec(obj.get("spec") or {}, "spec")


def _captured(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Istio's annotations of captured traffic must be readable, since the sandbox is set up by them."""
    annotations = objects.annotations(obj)
    try:
        dataplane.capture(annotations)
    except ValueError as error:
        name = str(error).partition(":")[0]
        yield causes.invalid("metadata.annotations", annotations[name], str(error))


def template(pod_template: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """A pod template: labels, annotations and spec, no name."""
    meta = pod_template.get("metadata") or {}
    yield from metadata.label_pairs(meta.get("labels") or {}, f"{path}.metadata.labels")
    yield from metadata.annotation_pairs(meta.get("annotations") or {}, f"{path}.metadata.annotations")
    if pod_template.get("spec", {}).get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        yield causes.forbidden(f"{path}.spec.ephemeralContainers", detail)
    yield from spec(pod_template.get("spec") or {}, f"{path}.spec")


def spec(pod_spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    volumes = {v.get("name") or "" for v in pod_spec.get("volumes") or ()}
    yield from _volumes(pod_spec.get("volumes") or (), f"{path}.volumes")
    yield from _containers(pod_spec, path, volumes)
    yield from fields.one_of(f"{path}.restartPolicy", pod_spec.get("restartPolicy"), _RESTART, required=True)
    yield from fields.one_of(f"{path}.dnsPolicy", pod_spec.get("dnsPolicy"), _DNS, required=True)
    yield from _dns(pod_spec, path)
    yield from fields.non_negative(
        f"{path}.terminationGracePeriodSeconds", pod_spec.get("terminationGracePeriodSeconds")
    )
    if pod_spec.get("activeDeadlineSeconds") is not None:
        yield from fields.between(
            f"{path}.activeDeadlineSeconds", pod_spec["activeDeadlineSeconds"], 1, _MAX_INT32
        )
    for field in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if pod_spec.get(field):
            yield from fields.subdomain(f"{path}.{field}", pod_spec[field])
    for field in ("hostname", "subdomain"):
        if pod_spec.get(field):
            yield from fields.label(f"{path}.{field}", pod_spec[field])
    yield from _host_name(pod_spec, f"{path}.hostnameOverride")
    yield from metadata.label_pairs(pod_spec.get("nodeSelector") or {}, f"{path}.nodeSelector")
    yield from tolerations(pod_spec.get("tolerations") or (), f"{path}.tolerations")
    yield from _host(pod_spec, path)
    yield from _whole(pod_spec, f"{path}.resources")


_HOST_NAME_MAX: Final = 64


def _host_name(pod_spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """One that stands for all others."""
    name = pod_spec.get("hostnameOverride")
    if name is None:
        return
    for field in ("setHostnameAsFQDN", "hostNetwork"):
        if pod_spec.get(field):
            yield causes.forbidden(path, f"may not be specified when {field} is true")
    if len(name) > _HOST_NAME_MAX:
        yield causes.too_long(path, _HOST_NAME_MAX)
    else:
        yield from fields.subdomain(path, name)


def _whole(pod_spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """The amounts of the pod as a whole: its containers fit into them."""
    own = pod_spec.get("resources") or {}
    if own.get("claims") is not None:
        yield causes.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    yield from containers.resources(own, path)
    for kind in ("requests", "limits"):
        for name in own.get(kind) or ():
            if name not in ("cpu", "memory") and not name.startswith("hugepages-"):
                supported = ("cpu", "hugepages-", "memory")
                yield causes.not_supported(f"{path}.{kind}.{name}", name, supported)
    together = demand.total(pod_spec, demand.requests)
    for name, amount in (own.get("requests") or {}).items():
        if together[name] > quantity.milli_of(amount):
            sum_ = quantity.canonical(f"{together[name]}m")
            detail = f"must be greater than or equal to aggregate container requests of {sum_}"
            yield causes.invalid(f"{path}.requests[{name}]", amount, detail)
    for index, container in enumerate(pod_spec.get("containers") or ()):
        for name, limit in ((container.get("resources") or {}).get("limits") or {}).items():
            most = (own.get("limits") or {}).get(name)
            if most is not None and quantity.parse(limit) > quantity.parse(most):
                detail = f"must be less than or equal to pod limits of {most}"
                yield causes.invalid(f"{path}.containers[{index}][{name}].limits", limit, detail)


def _containers(pod_spec: Mapping[str, Any], path: str, volumes: set[str]) -> Iterator[Cause]:
    if not pod_spec.get("containers"):
        yield causes.required(f"{path}.containers")
    seen: set[str] = set()
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(pod_spec.get(field) or ()):
            item_path = f"{path}.{field}[{index}]"
            name = container.get("name") or ""
            yield from containers.check(container, item_path, volumes)
            yield from containers.resize_policies(
                container.get("resizePolicy") or (),
                f"{item_path}.resizePolicy",
                pod_spec.get("restartPolicy"),
            )
            yield from security.proc_mount(container, pod_spec.get("hostUsers"), item_path)
            if name and name in seen:
                yield causes.duplicate(f"{item_path}.name", name)
            seen.add(name)
            if field == "initContainers":
                yield from _init(container, item_path)
            elif field == "containers":
                yield from containers.running(container, item_path)
                yield from containers.restarts(container, item_path)
    yield from _host_ports(pod_spec, path)


def _init(container: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Init containers end, so they have no probes, unless they are sidecars."""
    policy = container.get("restartPolicy")
    if policy == "Always":
        yield from containers.running(container, path)
        if container.get("restartPolicyRules"):
            detail = "restartPolicyRules are not allowed for init containers with restart policy Always"
            yield causes.forbidden(f"{path}.restartPolicyRules", detail)
        return
    yield from containers.restarts(container, path)
    for index, each in enumerate(container.get("resizePolicy") or ()):
        if each.get("restartPolicy") == "RestartContainer":
            detail = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            item_path = f"{path}.resizePolicy[{index}].restartPolicy"
            yield causes.invalid(item_path, "RestartContainer", detail)
    for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            detail = "may not be set for init containers without restartPolicy=Always"
            yield causes.forbidden(f"{path}.{name}", detail)


def _host_ports(pod_spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    seen = set()
    for index, container in enumerate(pod_spec.get("containers") or ()):
        for number, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                host_port = (port.get("protocol"), port.get("hostIP") or "", port["hostPort"])
                if host_port in seen:
                    quoted = f"{host_port[0]}/{host_port[1]}/{host_port[2]}"
                    yield causes.duplicate(f"{path}.containers[{index}].ports[{number}].hostPort", quoted)
                seen.add(host_port)
            if pod_spec.get("hostNetwork") and port.get("hostPort") != port.get("containerPort"):
                detail = "must match `hostPort` when `hostNetwork` is true"
                item_path = f"{path}.containers[{index}].ports[{number}].containerPort"
                yield causes.invalid(item_path, port.get("containerPort"), detail)


def _volumes(volumes: Any, path: str) -> Iterator[Cause]:
    yield from fields.unique(path, ((i, v["name"]) for i, v in enumerate(volumes) if v.get("name")), "name")
    for index, volume in enumerate(volumes):
        item_path = f"{path}[{index}]"
        if not volume.get("name"):
            yield causes.required(f"{item_path}.name")
        else:
            yield from fields.label(f"{item_path}.name", volume["name"])
        sources = [key for key in volume if key != "name"]
        if not sources:
            yield causes.required(item_path, "must specify a volume type")
        for extra in sources[1:]:
            yield causes.forbidden(f"{item_path}.{extra}", "may not specify more than 1 volume type")
        yield from _source(volume, item_path)


def _source(volume: Mapping[str, Any], path: str) -> Iterator[Cause]:
    needs = (
        ("hostPath", "path"),
        ("secret", "secretName"),
        ("configMap", "name"),
        ("persistentVolumeClaim", "claimName"),
        ("csi", "driver"),
        ("nfs", "server"),
        ("nfs", "path"),
        ("image", "reference"),
    )
    for source, field in needs:
        if volume.get(source) is not None and not volume[source].get(field):
            yield causes.required(f"{path}.{source}.{field}")
    policy, policies = (volume.get("image") or {}).get("pullPolicy"), ("Always", "IfNotPresent", "Never")
    yield from fields.one_of(f"{path}.image.pullPolicy", policy, policies)
    host = (volume.get("hostPath") or {}).get("path") or ""
    if ".." in host.split("/"):
        yield causes.invalid(f"{path}.hostPath.path", host, "must not contain '..'")
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        mode = (volume.get(source) or {}).get("defaultMode")
        yield from _mode(f"{path}.{source}.defaultMode", mode)
    for source in ("secret", "configMap"):
        yield from _items((volume.get(source) or {}).get("items") or (), f"{path}.{source}.items")
    yield from _downward(volume.get("downwardAPI") or {}, f"{path}.downwardAPI")
    for index, projected in enumerate((volume.get("projected") or {}).get("sources") or ()):
        item_path = f"{path}.projected.sources[{index}]"
        for source in ("secret", "configMap"):
            yield from _items((projected.get(source) or {}).get("items") or (), f"{item_path}.{source}.items")
        yield from _downward(projected.get("downwardAPI") or {}, f"{item_path}.downwardAPI")
        token = projected.get("serviceAccountToken")
        if token is not None and not token.get("path"):
            yield causes.required(f"{item_path}.serviceAccountToken.path")
        yield from _volume_path(f"{item_path}.serviceAccountToken.path", (token or {}).get("path") or "")
        if token is not None and token.get("expirationSeconds", 3600) < 600:
            detail = "may not specify a duration less than 10 minutes"
            yield causes.invalid(
                f"{item_path}.serviceAccountToken.expirationSeconds", token["expirationSeconds"], detail
            )


def _items(items: Any, path: str) -> Iterator[Cause]:
    for index, item in enumerate(items):
        item_path = f"{path}[{index}]"
        if not item.get("key"):
            yield causes.required(f"{item_path}.key")
        yield from _target(item, item_path)


def _downward(source: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for index, item in enumerate(source.get("items") or ()):
        item_path = f"{path}[{index}]"
        yield from _target(item, item_path)
        if item.get("fieldRef") is not None:
            yield from containers.field_ref(item["fieldRef"], f"{item_path}.fieldRef")
        elif item.get("resourceFieldRef") is not None:
            yield from containers.resource_field_ref(
                item["resourceFieldRef"], f"{item_path}.resourceFieldRef"
            )
        else:
            yield causes.required(item_path, "one of fieldRef and resourceFieldRef is required")


def _target(item: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if not item.get("path"):
        yield causes.required(f"{path}.path")
    yield from _volume_path(f"{path}.path", item.get("path") or "")
    yield from _mode(f"{path}.mode", item.get("mode"))


def _volume_path(path: str, value: str) -> Iterator[Cause]:
    """The path of a file in its volume; names that begin with two dots are the volume's own."""
    yield from fields.inner_path(path, value)
    if value.startswith("..") and ".." not in value.split("/"):
        yield causes.invalid(path, value, "must not start with '..'")


def _mode(path: str, mode: int | None) -> Iterator[Cause]:
    if mode is not None and not 0 <= mode <= 0o777:
        yield causes.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")


def _dns(pod_spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    config = pod_spec.get("dnsConfig") or {}
    if pod_spec.get("dnsPolicy") == "None" and not config.get("nameservers"):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield causes.required(f"{path}.dnsConfig.nameservers", detail)
    for index, server in enumerate(config.get("nameservers") or ()):
        yield from _address(f"{path}.dnsConfig.nameservers[{index}]", server)
    for index, alias in enumerate(pod_spec.get("hostAliases") or ()):
        yield from _address(f"{path}.hostAliases[{index}].ip", alias.get("ip") or "")


def _address(path: str, value: str) -> Iterator[Cause]:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        yield causes.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def tolerations(listed: Any, path: str) -> Iterator[Cause]:
    for index, toleration in enumerate(listed):
        item_path = f"{path}[{index}]"
        operator = toleration.get("operator") or "Equal"
        yield from fields.one_of(f"{item_path}.operator", operator, ("Equal", "Exists"))
        if toleration.get("effect"):
            yield from fields.one_of(f"{item_path}.effect", toleration["effect"], _EFFECTS)
        if not toleration.get("key") and operator != "Exists":
            detail = (
                'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            )
            yield causes.invalid(f"{item_path}.operator", operator, detail)
        if operator == "Exists" and toleration.get("value"):
            yield causes.invalid(
                f"{item_path}.operator", operator, "value must be empty when `operator` is 'Exists'"
            )
        if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            yield causes.invalid(f"{item_path}.effect", toleration.get("effect") or "", detail)


def _host(pod_spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if pod_spec.get("hostPID") and pod_spec.get("shareProcessNamespace"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield causes.invalid(f"{path}.shareProcessNamespace", True, detail)
    yield from security.of_pod(pod_spec, f"{path}.securityContext")
    for index, secret in enumerate(pod_spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield causes.required(f"{path}.imagePullSecrets[{index}].name")


def pod_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """All but images, the deadline and added tolerations is fixed once a pod exists."""
    spec, old_spec = new.get("spec") or {}, old.get("spec") or {}
    if spec == old_spec:
        return
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or ()) != len(old_spec.get(field) or ()):
            yield causes.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return
    yield from _deadline(spec.get("activeDeadlineSeconds"), old_spec.get("activeDeadlineSeconds"))
    if not all(
        toleration in (spec.get("tolerations") or ()) for toleration in old_spec.get("tolerations") or ()
    ):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        yield causes.forbidden("spec.tolerations", detail)
    gates = [
        gate
        for gate in spec.get("schedulingGates") or ()
        if gate not in (old_spec.get("schedulingGates") or ())
    ]
    if gates:
        yield causes.forbidden(
            "spec.schedulingGates", "only deletion is allowed, but found new scheduling gate"
        )
    if _fixed(spec, old_spec) != old_spec:
        yield causes.forbidden("spec", _MUTABLE)


def _deadline(seconds: int | None, old_seconds: int | None) -> Iterator[Cause]:
    path = "spec.activeDeadlineSeconds"
    if old_seconds is not None and seconds is None:
        yield causes.invalid(path, None, "must not update from a positive integer to nil value")
    elif old_seconds is not None and seconds is not None and seconds > old_seconds:
        yield causes.invalid(path, seconds, "must be less than or equal to previous value")


def _fixed(spec: Mapping[str, Any], old_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The new spec with what may change put back."""
    fixed = copy.deepcopy(dict(spec))
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        fixed.pop(field, None)
        if field in old_spec:
            fixed[field] = old_spec[field]
    if (
        old_spec.get("terminationGracePeriodSeconds", 0) < 0
        and spec.get("terminationGracePeriodSeconds") == 1
    ):
        fixed["terminationGracePeriodSeconds"] = old_spec["terminationGracePeriodSeconds"]
    for field in ("containers", "initContainers"):
        for container, before in zip(fixed.get(field) or (), old_spec.get(field) or (), strict=True):
            container["image"] = before.get("image")
    if not old_spec.get("nodeName") and old_spec.get("schedulingGates"):
        for field in ("nodeSelector", "affinity"):
            fixed.pop(field, None)
            if field in old_spec:
                fixed[field] = old_spec[field]
    return fixed

"""What Kubernetes warns of in pods, in Services and in endpoints, though it takes them. Pure.

The sentences are those of its `pkg/api/*/warnings.go`, which tools and tests look for. Warnings of
fields that only this project does not act on are in `apiserver.unsupported`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import labels, objects
from ondol.api.objects import Object
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base import addresses, quantity

_NODE_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": (
        'deprecated since v1.17; use "topology.kubernetes.io/region" instead'
    ),
    "failure-domain.beta.kubernetes.io/zone": (
        'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
    ),
    "beta.kubernetes.io/instance-type": (
        'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead'
    ),
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": (
        "deprecated since v1.22; use Taints and Tolerations instead"
    ),
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_ANNOTATIONS: Final = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": (
        'non-functional in v1.11+; use the "sysctls" field instead'
    ),
}
_VOLUMES: Final = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SECCOMP: Final = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
"""A label that controllers set: the addresses of such slices are canonical and not checked."""
_MOUNTABLE: Final = "kubernetes.io/enforce-mountable-secrets"
_WHOLE: Final = ("memory", "ephemeral-storage")
_NO_SELECTOR: Final = "a null labelSelector results in matching no pod"


def pod(obj: Object) -> list[str]:
    """Of a new Pod."""
    return [
        *_name(obj, "this is used in the Pod's hostname"),
        *_of_pod(objects.metadata(obj), objects.spec(obj), ""),
    ]


def workload(
    new: Object, old: Object | None, path: Sequence[str] = ("spec", "template"), *, named: bool = True
) -> list[str]:
    """Of what makes pods: of its template, at `path`, whenever its spec changes; `named` after it."""
    if old is not None and objects.generation(new) == objects.generation(old):
        return []
    template: Any = new
    for field in path:
        template = template.get(field) or {}
    is_first = named and old is None
    listed = list(_name(new, "this is used in Pod names and hostnames")) if is_first else []
    return [*listed, *_of_pod(objects.metadata(template), objects.spec(template), ".".join(path))]


def claim(spec: Mapping[str, Any], path: str) -> list[str]:
    """Of a PersistentVolumeClaim's spec, or of a template for them."""
    resources = spec.get("resources") or {}
    return [
        message
        for kind in ("requests", "limits")
        for message in _fractions(resources.get(kind) or {}, f"{path}.resources.{kind}", ("storage",))
    ]


_CLASS_ANNOTATION: Final = "volume.beta.kubernetes.io/storage-class"


def storage_class(obj: Object) -> list[str]:
    """Of a StorageClass that names nodes by labels of the past."""
    return [
        message
        for index, term in enumerate(obj.get("allowedTopologies") or ())
        for message in _term(
            {"matchExpressions": term.get("matchLabelExpressions")},
            f"allowedTopologies[{index}]",
            values=False,
            field="matchLabelExpressions",
        )
    ]


def storage_capacity(obj: Object) -> list[str]:
    """Of a CSIStorageCapacity that names nodes by labels of the past."""
    topology = obj.get("nodeTopology") or {}
    named = [
        f"nodeTopology.matchLabels.{key}: {_NODE_LABELS[key]}"
        for key in topology.get("matchLabels") or {}
        if key in _NODE_LABELS
    ]
    return [*named, *_term(topology, "nodeTopology", values=False)]


def volume(obj: Object) -> list[str]:
    """Of a PersistentVolume."""
    spec = objects.spec(obj)
    listed = [
        f'metadata.annotations[{annotation}]: deprecated since v1.8; use "{field}" attribute instead'
        for annotation, field in (
            (_CLASS_ANNOTATION, "storageClassName"),
            ("volume.beta.kubernetes.io/mount-options", "spec.mountOptions"),
        )
        if annotation in objects.annotations(obj)
    ]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        listed.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
            "recommended approach is to use dynamic provisioning."
        )
    listed += [f"spec.{kind}: {message}" for kind, message in _VOLUMES.items() if spec.get(kind) is not None]
    return [*listed, *_fractions(spec.get("capacity") or {}, "spec.capacity", ("storage",))]


def _name(obj: Object, reason: str) -> Iterator[str]:
    problems = [cause.message.partition(": ")[2] for cause in fields.label("", objects.name(obj))]
    problems = [message.removeprefix(f"{causes.quoted(objects.name(obj))}: ") for message in problems]
    if problems:
        listed = " ".join(problems)
        yield (
            f"metadata.name: {reason}, which can result in surprising behavior; a DNS label is recommended: "
            f"[{listed}]"
        )


def _of_pod(metadata: Mapping[str, Any], spec: Mapping[str, Any], path: str) -> Iterator[str]:
    spec_path = causes.child(path, "spec")
    annotated = causes.child(path, "metadata.annotations")
    annotations = metadata.get("annotations") or {}
    yield from _node_labels(spec, spec_path)
    for key, message in _ANNOTATIONS.items():
        if key in annotations:
            yield f"{annotated}[{key}]: {message}"
    yield from _volumes(spec.get("volumes") or (), spec_path)
    yield from _repeated(spec.get("hostAliases") or (), "ip", f"{spec_path}.hostAliases")
    yield from _repeated(spec.get("imagePullSecrets") or (), "name", f"{spec_path}.imagePullSecrets")
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield f'{spec_path}.imagePullSecrets[{index}].name: invalid empty name ""'
    yield from _fractions(spec.get("overhead") or {}, f"{spec_path}.overhead")
    if _SECCOMP_POD in annotations and not (spec.get("securityContext") or {}).get("seccompProfile"):
        yield f"{annotated}[{_SECCOMP_POD}]: {_SECCOMP}"
    for container, spot in _containers(spec, spec_path):
        yield from _container(container, spot, annotations, annotated)
    yield from _ports(spec, spec_path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield (
            f"{spec_path}.terminationGracePeriodSeconds: must be >= 0; "
            "negative values are invalid and will be treated as 1"
        )
    yield from _affinity(spec.get("affinity") or {}, f"{spec_path}.affinity")
    yield from _addresses(spec, spec_path)


def _node_labels(spec: Mapping[str, Any], path: str) -> Iterator[str]:
    for key in spec.get("nodeSelector") or {}:
        if key in _NODE_LABELS:
            yield f"{path}.nodeSelector[{key}]: {_NODE_LABELS[key]}"
    nodes = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    spot = f"{path}.affinity.nodeAffinity"
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for index, term in enumerate(required.get("nodeSelectorTerms") or ()):
        place = f"{spot}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]"
        yield from _term(term, place, values=False)
    for index, term in enumerate(nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        place = f"{spot}.preferredDuringSchedulingIgnoredDuringExecution[{index}].preference"
        yield from _term(term.get("preference") or {}, place, values=True)
    for index, spread in enumerate(spec.get("topologySpreadConstraints") or ()):
        place, key = f"{path}.topologySpreadConstraints[{index}]", spread.get("topologyKey") or ""
        if key in _NODE_LABELS:
            yield f"{place}.topologyKey: {key} is {_NODE_LABELS[key]}"
        if spread.get("labelSelector") is None:
            yield f"{place}.labelSelector: {_NO_SELECTOR}"


def _term(
    term: Mapping[str, Any], path: str, *, values: bool, field: str = "matchExpressions"
) -> Iterator[str]:
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        spot, key = f"{path}.{field}[{index}]", expression.get("key") or ""
        if key in _NODE_LABELS:
            yield f"{spot}.key: {key} is {_NODE_LABELS[key]}"
        for at, value in enumerate((expression.get("values") or ()) if values else ()):
            for message in labels.label_value_problems(value):
                yield f"{spot}.values[{at}]: {value} is invalid, {message}"


def _volumes(volumes: Iterable[Mapping[str, Any]], path: str) -> Iterator[str]:
    listed = list(volumes)
    for index, volume in enumerate(listed):
        for kind, message in _VOLUMES.items():
            if volume.get(kind) is not None:
                yield f"{path}.volumes[{index}].{kind}: {message}"
    for volume in listed:
        yield from _overlaps(volume)


def _overlaps(volume: Mapping[str, Any]) -> Iterator[str]:
    """Items of one volume that would be written over, or into, each other."""
    name = causes.quoted(volume.get("name") or "")
    for kind, word, named in _SOURCES:
        source = volume.get(kind)
        if source is not None:
            title = f"{word} {causes.quoted(source.get(named) or '')}" if named else word
            for overlap in _colliding((item.get("path") or "", "") for item in source.get("items") or ()):
                yield f"volume {name} ({title}): overlapping paths: {overlap}"
    projected = (volume.get("projected") or {}).get("sources") or ()
    if any(not source for source in projected):
        yield f"volume {name} (Projected) has no sources provided"
    for overlap in _colliding(pair for source in projected for pair in _projected(source)):
        yield f"volume {name} (Projected): overlapping paths: {overlap}"


_SOURCES: Final = (
    ("configMap", "ConfigMap", "name"),
    ("secret", "Secret", "secretName"),
    ("downwardAPI", "DownwardAPI", ""),
)


def _projected(source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, title in (("configMap", "ConfigMap"), ("secret", "Secret")):
        for item in (source.get(kind) or {}).get("items") or ():
            yield item.get("path") or "", f"{title} {causes.quoted(source[kind].get('name') or '')}"
    for item in (source.get("downwardAPI") or {}).get("items") or ():
        yield item.get("path") or "", "DownwardAPI"
    if source.get("serviceAccountToken"):
        yield source["serviceAccountToken"].get("path") or "", "ServiceAccountToken"


def _colliding(paths: Iterable[tuple[str, str]]) -> Iterator[str]:
    earlier: list[tuple[str, str]] = []
    for path, source in ((path.rstrip("/"), source) for path, source in paths):
        for other, origin in earlier if path else ():
            if f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/"):
                yield f"{_quoted(path, source)} with {_quoted(other, origin)}"
        if path:
            earlier.append((path, source))


def _quoted(path: str, source: str) -> str:
    return f'"{path}" ({source})' if source else f'"{path}"'


def _repeated(items: Iterable[Mapping[str, Any]], field: str, path: str) -> Iterator[str]:
    seen: set[Any] = set()
    for index, item in enumerate(items):
        value = item.get(field) or ""
        if value in seen:
            yield f"{path}[{index}].{field}: duplicate {field} {causes.quoted(value)}"
        seen.add(value)


def _fractions(amounts: Mapping[str, Any], path: str, names: Iterable[str] = _WHOLE) -> Iterator[str]:
    for resource in names:
        amount = amounts.get(resource)
        if amount is not None and quantity.parse(amount).denominator != 1:
            quoted = causes.quoted(amount)
            yield f"{path}[{resource}]: fractional byte value {quoted} is invalid, must be an integer"


def _containers(spec: Mapping[str, Any], path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield container, f"{path}.{field}[{index}]"


def _container(
    container: Mapping[str, Any], path: str, annotations: Mapping[str, str], annotated: str
) -> Iterator[str]:
    name, context = container.get("name") or "", container.get("securityContext") or {}
    if not context.get("seccompProfile") and (key := _SECCOMP_CONTAINER + name) in annotations:
        yield f"{annotated}[{key}]: {_SECCOMP}"
    if not context.get("appArmorProfile") and (key := _APP_ARMOR + name) in annotations:
        yield f'{annotated}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'
    for kind in ("limits", "requests"):
        amounts = (container.get("resources") or {}).get(kind) or {}
        yield from _fractions(amounts, f"{path}.resources.{kind}")
    yield from _variables(container.get("env") or (), path)


def _variables(variables: Iterable[Mapping[str, Any]], path: str) -> Iterator[str]:
    """A second definition is fine only if it refers to the first: `PATH=$(PATH):/more`."""
    seen: set[str] = set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name") or "", variable.get("value") or ""
        first = f"$({name})"
        if name in seen and (variable.get("valueFrom") or value == first or first not in value):
            yield (
                f"{path}.env[{index}]: hides previous definition of {causes.quoted(name)}, "
                "which may be dropped when using apply"
            )
        seen.add(name)


def _ports(spec: Mapping[str, Any], path: str) -> Iterator[str]:
    seen: dict[tuple[Any, Any], list[tuple[str, Mapping[str, Any]]]] = {}
    named: dict[str, str] = {}
    repeated: list[str] = []
    for container, spot in _containers(spec, path):
        for index, port in enumerate(container.get("ports") or ()):
            place = f"{spot}.ports[{index}]"
            if port.get("hostIP") and not port.get("hostPort"):
                yield f"{place}: hostIP set without hostPort: {_port(port)}"
            others = seen.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other, earlier in others:
                if clash := _clash(port, earlier):
                    yield f"{place}: {clash} port definition with {other}"
            others.append((place, port))
            if name := port.get("name"):
                if name in named:
                    repeated.append(
                        f'{place}: duplicate port name "{name}" with {named[name]}, services and probes '
                        f"that select ports by name will use {named[name]}"
                    )
                named.setdefault(name, place)
    yield from repeated


def _port(port: Mapping[str, Any]) -> str:
    """A port as Go prints the struct."""
    fields = ("name", "hostPort", "containerPort", "protocol", "hostIP")
    printed = " ".join(
        f"{field[0].upper()}{field[1:]}:{port.get(field, 0 if field.endswith('Port') else '')}"
        for field in fields
    )
    return f"{{{printed}}}"


def _clash(port: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    address, others = port.get("hostIP") or "", other.get("hostIP") or ""
    at, others_at = port.get("hostPort") or 0, other.get("hostPort") or 0
    if (address, at) == (others, others_at):
        return "duplicate"
    if not at or not others_at:
        return "overlapping"
    return "dangerously ambiguous" if at == others_at and bool(address) != bool(others) else ""


def _affinity(affinity: Mapping[str, Any], path: str) -> Iterator[str]:
    for field in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(field) or {}
        spot = f"{path}.{field}.requiredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            if term.get("labelSelector") is None:
                yield f"{spot}[{index}].labelSelector: {_NO_SELECTOR}"
        spot = f"{path}.{field}.preferredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            if (term.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{spot}[{index}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"


def _addresses(spec: Mapping[str, Any], path: str) -> Iterator[str]:
    for index, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        yield from _address(server, f"{path}.dnsConfig.nameservers[{index}]")
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        yield from _address(alias.get("ip") or "", f"{path}.hostAliases[{index}].ip")


def _address(value: str, path: str) -> Iterator[str]:
    """Of an IPv6 address that is not spelled as it should be."""
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        return  # validation refuses it, or will: leading zeros are none here
    if not isinstance(parsed, ipaddress.IPv6Address):
        return
    if parsed.ipv4_mapped is not None:
        yield (
            f"{path}: non-standard IP address {causes.quoted(value)} is invalid: "
            f"use {causes.quoted(str(parsed.ipv4_mapped))}"
        )
    elif str(parsed) != value:
        yield (
            f"{path}: IPv6 address {causes.quoted(value)} should be in RFC 5952 canonical format "
            f"({causes.quoted(str(parsed))})"
        )


def service(new: Object, old: Object | None) -> list[str]:
    """Of a Service, new or changed."""
    del old
    return list(_service(objects.annotations(new), objects.spec(new)))


def _service(annotations: Mapping[str, str], spec: Mapping[str, Any]) -> Iterator[str]:
    hints, kind = "service.kubernetes.io/topology-aware-hints", spec.get("type")
    if hints in annotations:
        yield f"annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    for holds, message in (
        (spec.get("loadBalancerIP"), "spec.loadBalancerIP is ignored for headless services"),
        (spec.get("externalIPs"), "spec.externalIPs is ignored for headless services"),
        (spec.get("sessionAffinity") == "ClientIP", "spec.SessionAffinity is ignored for headless services"),
    ):
        if headless and holds:
            yield message
    for index, address in enumerate(spec.get("externalIPs") or ()):
        yield from _address(address, f"spec.externalIPs[{index}]")
    if spec.get("externalIPs") and kind == "ExternalName":
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if spec.get("externalName") and kind != "ExternalName":
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def network_policy(obj: Object) -> list[str]:
    """Of a NetworkPolicy's networks that are not spelled as they should be."""
    return [
        message
        for direction, field in (("ingress", "from"), ("egress", "to"))
        for index, rule in enumerate(objects.spec(obj).get(direction) or ())
        for at, peer in enumerate(rule.get(field) or ())
        for message in _block(peer.get("ipBlock") or {}, f"spec.{direction}[{index}].{field}[{at}].ipBlock")
    ]


def _block(block: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _cidr(block.get("cidr") or "", f"{path}.cidr")
    for index, cidr in enumerate(block.get("except") or ()):
        yield from _cidr(cidr, f"{path}.except[{index}]")


def _cidr(value: str, path: str) -> Iterator[str]:
    network, text = addresses.network(value), causes.quoted(value)
    if network is None:
        return
    address = ipaddress.ip_address(value.partition("/")[0])
    if address != network.network_address:
        single = f"{address}/{network.max_prefixlen}"
        yield (
            f"{path}: CIDR value {text} is ambiguous in this context (should be "
            f"{causes.quoted(str(network))} or {causes.quoted(single)}?)"
        )
    elif network.version == 6 and str(network) != value:
        yield (
            f"{path}: IPv6 CIDR value {text} should be in RFC 5952 canonical format "
            f"({causes.quoted(str(network))})"
        )


def ingress(new: Object, old: Object | None) -> list[str]:
    """Of an Ingress, when it is new."""
    named = "kubernetes.io/ingress.class" in objects.annotations(new)
    if old is not None or not named or objects.spec(new).get("ingressClassName") is not None:
        return []
    return [
        "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
    ]


def runtime_class(obj: Object) -> list[str]:
    """Of a RuntimeClass that names nodes by labels of the past."""
    selected = (obj.get("scheduling") or {}).get("nodeSelector") or {}
    return [f"scheduling.nodeSelector: {_NODE_LABELS[key]}" for key in selected if key in _NODE_LABELS]


def endpoint_slice(new: Object, old: Object | None) -> list[str]:
    """Of an EndpointSlice, new or changed."""
    listed = []
    if old is None and new.get("addressType") == "FQDN":
        listed = ["spec.addressType: FQDN endpoints are deprecated"]
    by_controller = objects.labels(new).get(_MANAGED_BY, "").endswith("-controller.k8s.io")
    return listed if by_controller else listed + list(_each_address(new))


def _each_address(slice_: Object) -> Iterator[str]:
    for index, endpoint in enumerate(slice_.get("endpoints") or ()):
        for at, address in enumerate(endpoint.get("addresses") or ()):
            yield from _address(address, f"endpoints[{index}].addresses[{at}]")


def endpoints(new: Object, old: Object | None) -> list[str]:
    """Of an Endpoints object, new or changed."""
    del old
    if objects.labels(new).get(_MANAGED_BY, "").endswith("-controller"):
        return []
    return [
        message
        for index, subset in enumerate(new.get("subsets") or ())
        for field in ("addresses", "notReadyAddresses")
        for at, address in enumerate(subset.get(field) or ())
        for message in _address(address.get("ip") or "", f"subsets[{index}].{field}[{at}].ip")
    ]


def service_account(new: Object, old: Object | None) -> list[str]:
    """Of a ServiceAccount that newly limits its pods' secrets by the deprecated annotation."""
    if _MOUNTABLE not in objects.annotations(new) or _MOUNTABLE in objects.annotations(old or {}):
        return []
    return [
        (
            f"metadata.annotations[{_MOUNTABLE}]: deprecated in v1.32+; "
            "prefer separate namespaces to isolate access to mounted secrets"
        )
    ]

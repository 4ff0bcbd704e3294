"""A container's environment: variables from the pod, its maps and secrets, and `$(VAR)` expansion."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.base import errors, quantity
from ondol.node.config import NodeConfig
from ondol.node.pods import model

Spec = Mapping[str, Any]

_REFERENCE: Final = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")
_SUBSCRIPT: Final = re.compile(r"metadata\.(?P<field>labels|annotations)\['(?P<key>[^']+)'\]")
_VARIABLE_NAME: Final = re.compile(r"[ -<>-~]+")
"""Any printable ASCII but `=` (Kubernetes 1.34: RelaxedEnvironmentVariableValidation is stable)."""


class ConfigMissing(errors.OndolError):
    """A map, secret or key the container needs does not exist (reason CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The documents a pod refers to; None for one that does not exist."""

    config_maps: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a pod may ask of itself besides its own document."""

    pod_ip: str = ""
    host_ip: str = ""
    node_name: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)


def pod_facts(config: NodeConfig, allocatable: Mapping[str, str], record: model.Record) -> PodFacts:
    """Of a pod on this node."""
    return PodFacts(record.address or config.host_ip, config.host_ip, config.name, allocatable)


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where the name is known, `$$` halved; all else stays."""

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "$"
        return values.get(name, match[0])

    # Behind the last ")" no reference ends: a million "$(" there would each be searched to the end.
    end = text.rfind(")") + 1
    return _REFERENCE.sub(replacement, text[:end]) + text[end:].replace("$$", "$")


def expand_strictly(text: str, values: Mapping[str, str]) -> str:
    """As `expand`, but a name that is not known is an error: a path may not depend on it."""
    for match in _REFERENCE.finditer(text):
        name = match["name"]
        if name is not None and name not in values:
            raise ConfigMissing(f'missing value for "{name}"')
    return expand(text, values)


def decoded(obj: Mapping[str, Any]) -> dict[str, bytes]:
    """All values of a ConfigMap or Secret as bytes."""
    is_secret = obj.get("kind") == "Secret"
    data: Mapping[str, str] = obj.get("data") or {}
    binary: Mapping[str, str] = obj.get("binaryData") or {}
    plain = {key: base64.b64decode(value) if is_secret else value.encode() for key, value in data.items()}
    return plain | {key: base64.b64decode(value) for key, value in binary.items()}


def variables(
    pod: Spec,
    container: Spec,
    *,
    sources: Sources,
    facts: PodFacts,
    services: Mapping[str, str],
) -> dict[str, str]:
    """The variables the pod gives, later over earlier: services, envFrom, env.

    These alone are known to `$(NAME)`: the image's are the runtime's business.
    """
    values: dict[str, str] = {**services}
    for entry in container.get("envFrom") or ():
        values |= {name: value for name, value in _from_whole(entry, sources).items() if is_name(name)}
    for entry in container.get("env") or ():
        origin = entry.get("valueFrom")
        if not origin:
            values[entry["name"]] = expand(str(entry.get("value") or ""), values)
            continue
        value = _value(pod, container, origin, sources, facts)
        if value is not None:
            values[entry["name"]] = value
    return values


def is_name(name: str) -> bool:
    """Whether a variable may be called so."""
    return _VARIABLE_NAME.fullmatch(name) is not None


def skipped(pod: Spec, container: Spec, sources: Sources) -> list[str]:
    """What is left out of `envFrom` because it cannot name a variable; a sentence for each source."""
    sentences: list[str] = []
    for entry in container.get("envFrom") or ():
        names = [name for name in _from_whole(entry, sources) if not is_name(name)]
        if names:
            kind = "configMap" if "configMapRef" in entry else "secret"
            source = f"{objects.namespace(pod)}/{entry[f'{kind}Ref']['name']}"
            sentences.append(
                f"Keys [{', '.join(sorted(names))}] from the EnvFrom {kind} {source} were skipped since they "
                "are considered invalid environment variable names."
            )
    return sentences


def _from_whole(entry: Spec, sources: Sources) -> dict[str, str]:
    kind, reference, table = (
        ("configmap", entry["configMapRef"], sources.config_maps)
        if "configMapRef" in entry
        else ("secret", entry["secretRef"], sources.secrets)
    )
    obj = table.get(reference["name"])
    if obj is None:
        if reference.get("optional"):
            return {}
        raise ConfigMissing(f'{kind} "{reference["name"]}" not found')
    prefix = entry.get("prefix") or ""
    return {prefix + key: value.decode(errors="replace") for key, value in decoded(obj).items()}


def _value(pod: Spec, container: Spec, origin: Spec, sources: Sources, facts: PodFacts) -> str | None:
    if "fieldRef" in origin:
        return field_value(pod, origin["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in origin:
        return resource_value(pod, container, origin["resourceFieldRef"], facts)
    if "configMapKeyRef" in origin:
        return _key(origin["configMapKeyRef"], "configmap", sources.config_maps)
    if "secretKeyRef" in origin:
        return _key(origin["secretKeyRef"], "secret", sources.secrets)
    raise ConfigMissing(f"env: valueFrom {sorted(origin)} is not supported")


def _key(reference: Spec, kind: str, table: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    obj = table.get(reference["name"])
    values = decoded(obj) if obj is not None else {}
    if reference["key"] in values:
        return values[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    if obj is None:
        raise ConfigMissing(f'{kind} "{reference["name"]}" not found')
    raise ConfigMissing(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


def field_value(pod: Spec, path: str, facts: PodFacts) -> str:
    """The downward API's `fieldPath`."""
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        return str((objects.metadata(pod).get(subscript["field"]) or {}).get(subscript["key"], ""))
    direct = {
        "metadata.name": objects.name(pod),
        "metadata.namespace": objects.namespace(pod),
        "metadata.uid": objects.uid(pod),
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": str(objects.spec(pod).get("serviceAccountName") or "default"),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path in direct:
        return direct[path]
    if path in ("metadata.labels", "metadata.annotations"):
        pairs: Mapping[str, str] = objects.metadata(pod).get(path.partition(".")[2]) or {}
        return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(pairs.items()))
    raise ConfigMissing(f"fieldPath {path!r} is not supported")


_ESCAPES: Final = {
    "\\": r"\\",
    '"': r"\"",
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
}


def _quoted(value: str) -> str:
    """As Go's `%q` writes a string."""
    return f'"{"".join(_ESCAPES.get(c) or (c if c.isprintable() else _code(ord(c))) for c in value)}"'


def _code(point: int) -> str:
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def resource_value(pod: Spec, container: Spec, reference: Spec, facts: PodFacts) -> str:
    """The downward API's `resourceFieldRef`; an absent limit is what the node could give."""
    named = reference.get("containerName")
    if named:
        container = next((c for c in model.all_containers(pod) if c["name"] == named), container)
    part, _, name = str(reference["resource"]).partition(".")
    amount = ((container.get("resources") or {}).get(part) or {}).get(name)
    if amount is None:
        amount = facts.allocatable.get(name, "0") if part == "limits" else "0"
    divisor = quantity.parse(reference.get("divisor") or "1") or 1
    return str(-int(-quantity.parse(amount) // divisor))


def service_variables(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """`FOO_SERVICE_HOST` and the Docker link variables for Services that have an address."""
    values: dict[str, str] = {}
    for service in services:
        address = objects.spec(service).get("clusterIP")
        ports = objects.spec(service).get("ports") or ()
        if address and address != "None" and ports:
            values |= _links(objects.name(service).upper().replace("-", "_"), str(address), list(ports))
    return values


def _links(prefix: str, address: str, ports: list[Mapping[str, Any]]) -> dict[str, str]:
    values = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            values[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = str(port.get("protocol") or "TCP")
        url = f"{protocol.lower()}://{address}:{port['port']}"
        if index == 0:
            values[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port['port']}_{protocol}"
        values |= {
            link: url,
            f"{link}_PROTO": protocol.lower(),
            f"{link}_PORT": str(port["port"]),
            f"{link}_ADDR": address,
        }
    return values

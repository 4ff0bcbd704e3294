"""Where the values of variables and volumes come from: ConfigMaps, Secrets, the downward API. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.base import errors, quantity
from ondol.node import pod_spec
from ondol.node.pod_spec import Spec

_SUBSCRIPT: Final = re.compile(r"metadata\.(?P<field>labels|annotations)\['(?P<key>[^']+)'\]")


class ConfigMissing(errors.OndolError):
    """A map, secret or key the container needs does not exist (reason CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The documents a pod refers to; None for one that does not exist."""

    config_maps: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    files: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Files of the pod's volumes that variables come from, by volume and path."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a pod may ask of itself besides its own document."""

    pod_ip: str = ""
    host_ip: str = ""
    node_name: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)


def decoded(obj: Mapping[str, Any]) -> dict[str, bytes]:
    """All values of a ConfigMap or Secret as bytes."""
    is_secret = obj.get("kind") == "Secret"
    data: Mapping[str, str] = obj.get("data") or {}
    binary: Mapping[str, str] = obj.get("binaryData") or {}
    plain = {key: base64.b64decode(value) if is_secret else value.encode() for key, value in data.items()}
    return plain | {key: base64.b64decode(value) for key, value in binary.items()}


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
        container = next((c for c in pod_spec.all_containers(pod) if c["name"] == named), container)
    part, _, name = str(reference["resource"]).partition(".")
    amount = ((container.get("resources") or {}).get(part) or {}).get(name)
    if amount is None and part == "limits":
        amount = pod_spec.whole_limits(pod).get(name)
    if amount is None:
        amount = facts.allocatable.get(name, "0") if part == "limits" else "0"
    divisor = quantity.parse(reference.get("divisor") or "1") or 1
    return str(-int(-quantity.parse(amount) // divisor))

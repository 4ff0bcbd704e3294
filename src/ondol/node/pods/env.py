"""A container's environment: variables from the pod, its maps and secrets, and `$(VAR)` expansion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.node import value_sources
from ondol.node.config import NodeConfig
from ondol.node.pods import env_files, model

Spec = Mapping[str, Any]

_REFERENCE: Final = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")
_VARIABLE_NAME: Final = re.compile(r"[ -<>-~]+")
"""Any printable ASCII but `=` (Kubernetes 1.34: RelaxedEnvironmentVariableValidation is stable)."""


def pod_facts(
    config: NodeConfig, allocatable: Mapping[str, str], record: model.Record
) -> value_sources.PodFacts:
    """Of a pod on this node."""
    return value_sources.PodFacts(record.address or config.host_ip, config.host_ip, config.name, allocatable)


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
            raise value_sources.ConfigMissing(f'missing value for "{name}"')
    return expand(text, values)


def variables(
    pod: Spec,
    container: Spec,
    *,
    sources: value_sources.Sources,
    facts: value_sources.PodFacts,
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


def skipped(pod: Spec, container: Spec, sources: value_sources.Sources) -> list[str]:
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


def _from_whole(entry: Spec, sources: value_sources.Sources) -> dict[str, str]:
    kind, reference, table = (
        ("configmap", entry["configMapRef"], sources.config_maps)
        if "configMapRef" in entry
        else ("secret", entry["secretRef"], sources.secrets)
    )
    obj = table.get(reference["name"])
    if obj is None:
        if reference.get("optional"):
            return {}
        raise value_sources.ConfigMissing(f'{kind} "{reference["name"]}" not found')
    prefix = entry.get("prefix") or ""
    return {prefix + key: value.decode(errors="replace") for key, value in value_sources.decoded(obj).items()}


def _value(
    pod: Spec, container: Spec, origin: Spec, sources: value_sources.Sources, facts: value_sources.PodFacts
) -> str | None:
    if "fieldRef" in origin:
        return value_sources.field_value(pod, origin["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in origin:
        return value_sources.resource_value(pod, container, origin["resourceFieldRef"], facts)
    if "configMapKeyRef" in origin:
        return _key(origin["configMapKeyRef"], "configmap", sources.config_maps)
    if "secretKeyRef" in origin:
        return _key(origin["secretKeyRef"], "secret", sources.secrets)
    if "fileKeyRef" in origin:
        return _file_key(origin["fileKeyRef"], sources)
    raise value_sources.ConfigMissing(f"env: valueFrom {sorted(origin)} is not supported")


def _file_key(reference: Spec, sources: value_sources.Sources) -> str | None:
    """An empty value is as good as none, as the kubelet has it."""
    key, path = reference["key"], reference["path"]
    value = env_files.value(sources.files.get((reference["volumeName"], path), ""), key)
    if value or reference.get("optional"):
        return value or None
    raise value_sources.ConfigMissing(f'environment variable key "{key}" not found in file "{path}"')


def _key(reference: Spec, kind: str, table: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    obj = table.get(reference["name"])
    values = value_sources.decoded(obj) if obj is not None else {}
    if reference["key"] in values:
        return values[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    if obj is None:
        raise value_sources.ConfigMissing(f'{kind} "{reference["name"]}" not found')
    raise value_sources.ConfigMissing(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


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

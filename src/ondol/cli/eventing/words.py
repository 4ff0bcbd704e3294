"""What is said on the command line, as parts of documents: sinks, channels, filters, subjects. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ondol.api import resources
from ondol.api.objects import Object, Resource
from ondol.cli.output import UsageError
from ondol.contracts import eventing, serving

KSERVICE: Final = serving.SERVICE
SINKS: Final[Mapping[str, Resource]] = {
    "ksvc": KSERVICE,
    "broker": eventing.BROKER,
    "channel": eventing.CHANNEL,
    "imc": eventing.IN_MEMORY_CHANNEL,
    "svc": resources.SERVICE,
    "service": resources.SERVICE,
}
"""The words before the names of sinks."""
CHANNEL_TYPES: Final[Mapping[str, Resource]] = {
    "imc": eventing.IN_MEMORY_CHANNEL,
    "imcv1": eventing.IN_MEMORY_CHANNEL,
}
_CONFIGS: Final = {
    "cm": ("v1", "ConfigMap"),
    "configmap": ("v1", "ConfigMap"),
    "sc": ("v1", "Secret"),
    "secret": ("v1", "Secret"),
    "rmq": ("rabbitmq.com/v1beta1", "RabbitmqCluster"),
    "rabbitmq": ("rabbitmq.com/v1beta1", "RabbitmqCluster"),
    "rabbitmqcluster": ("rabbitmq.com/v1beta1", "RabbitmqCluster"),
}


class Sink(NamedTuple):
    """A sink as it was typed: a URI, or an object; `kind` is a word of `SINKS`, or group/version/plural."""

    uri: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


_VERSION: Final = re.compile(r"v[0-9][a-z0-9]*")
"""So that a kind and a version that have changed places are told apart."""


def sink(text: str, namespace: str) -> Sink:
    """`ksvc:name[:namespace]`, `broker:name`, a URI, a service's name, or any kind.

    Any is `group/version/plural:name`, `Kind:group/version:name` or, as shown, `group/version:Kind:name`.
    """
    if "://" in text:
        return Sink(uri=text)
    kind, *rest = text.split(":")
    if not rest:
        return Sink(kind="ksvc", name=kind, namespace=namespace)
    if len(rest) > 1 and _is_api_version(rest[0]) and ("/" in rest[0] or kind not in SINKS):
        kind, rest = f"{rest[0]}/{kind}", rest[1:]
    elif len(rest) > 1 and _is_api_version(kind):
        kind, rest = f"{kind}/{rest[0]}", rest[1:]
    kind = kind.lower() if kind.lower() in SINKS else kind
    if len(rest) > 2 or not all((kind, *rest)):
        raise UsageError(f"{text} is no sink such as broker:nest, ksvc:name:namespace or https://host/path")
    if kind not in SINKS and kind.count("/") not in (1, 2):
        example = f"{kind if kind[:1].isupper() else 'Kind'}:group/version:name"
        raise UsageError(f"{text}: {kind} is none of {', '.join(SINKS)}; other kinds are typed {example}")
    return Sink(kind=kind, name=rest[0], namespace=rest[1] if len(rest) > 1 else namespace)


def _is_api_version(text: str) -> bool:
    return _VERSION.fullmatch(text.rpartition("/")[2]) is not None


def resource_of(typed: Sink, served: Iterable[Resource]) -> Resource:
    """The kind of a sink that is an object; `served` are those of the server."""
    if typed.kind in SINKS:
        return SINKS[typed.kind]
    api_version, _, name = typed.kind.rpartition("/")
    for resource in served:
        if resource.api_version == api_version and name.lower() in (resource.plural, resource.kind.lower()):
            return resource
    raise UsageError(f"the server has no {name} in {api_version}")


def reference(resource: Resource, name: str, namespace: str = "") -> Object:
    """A reference to an object."""
    named = {"apiVersion": resource.api_version, "kind": resource.kind, "name": name}
    return named | ({"namespace": namespace} if namespace else {})


def shown(destination: Mapping[str, Any] | None) -> str:
    """A destination as it would be typed."""
    ref = (destination or {}).get("ref")
    uri = str((destination or {}).get("uri") or "")
    if not ref:
        return uri
    version, kind = str(ref.get("apiVersion")), str(ref.get("kind"))
    for word, resource in SINKS.items():
        if (resource.api_version, resource.kind) == (version, kind):
            return f"{word}:{ref.get('name')}{uri}"
    return f"{version}:{kind}:{ref.get('name')}{uri}"


def channel_type(text: str) -> Object:
    """`imc`, or `Group:Version:Kind`, as a template of channels."""
    if text in CHANNEL_TYPES:
        resource = CHANNEL_TYPES[text]
        return {"apiVersion": resource.api_version, "kind": resource.kind}
    parts = text.split(":")
    if len(parts) != 3 or not all(parts):
        raise UsageError(
            f"{text} is no type of channels such as imc or {eventing.MESSAGING}:v1:InMemoryChannel"
        )
    return {"apiVersion": f"{parts[0]}/{parts[1]}", "kind": parts[2]}


def channel(text: str) -> Object:
    """`name`, `imc:name` or `Group:Version:Kind:name`, as a reference."""
    kind, _, name = text.rpartition(":")
    if not name:
        raise UsageError(f"{text} is no channel such as pipe, imc:pipe or Group:Version:Kind:name")
    if not kind:
        return reference(eventing.CHANNEL, name)
    return {**channel_type(kind), "name": name}


def broker_config(text: str, namespace: str) -> Object:
    """`name`, `kind:name[:namespace]` or `apiVersion:kind:name[:namespace]`, as a reference."""
    parts = text.split(":")
    if not all(parts) or len(parts) > 4:
        raise UsageError(f"{text} is no configuration such as cm:name or v1:ConfigMap:name:namespace")
    if len(parts) == 1:
        parts = ["cm", *parts]
    kind_of = _CONFIGS.get(parts[0].lower())
    if kind_of is not None:
        version, kind, name, *rest = (*kind_of, *parts[1:])
    elif len(parts) > 2:
        version, kind, name, *rest = parts
    else:
        raise UsageError(f"{text}: say the apiVersion of {parts[0]}, too")
    return {"apiVersion": version, "kind": kind, "name": name, "namespace": rest[0] if rest else namespace}


def pairs(texts: Sequence[str], flag: str) -> tuple[dict[str, str], set[str]]:
    """`key=value`, also several with commas, and what `key-` takes away."""
    added: dict[str, str] = {}
    removed: set[str] = set()
    for text in (part for each in texts for part in each.split(",")):
        key, equals, value = text.partition("=")
        if equals and key:
            added[key] = value
        elif text.endswith("-") and len(text) > 1:
            removed.add(text[:-1])
        else:
            raise UsageError(f"{flag}: {text} is neither KEY=VALUE nor KEY-")
    return added, removed


def changed(before: Mapping[str, str], texts: Sequence[str], flag: str) -> dict[str, str]:
    """A map with the pairs added and taken away."""
    added, removed = pairs(texts, flag)
    return {key: value for key, value in {**before, **added}.items() if key not in removed}


def api_resource(text: str) -> Object:
    """`Kind:apiVersion[:label=value,...]` as an ApiServerSource watches it."""
    kind, _, rest = text.partition(":")
    version, _, selector = rest.partition(":")
    if not kind or not _is_api_version(version):
        raise UsageError(f"--resource: {text} is no resource such as Event:v1 or Deployment:apps/v1:app=web")
    watched: Object = {"apiVersion": version, "kind": kind}
    if selector:
        watched["selector"] = {"matchLabels": pairs([selector], "--resource")[0]}
    return watched


def subject(text: str, namespace: str) -> Object:
    """`kind:apiVersion:name`, or with labels in place of the name, as a SinkBinding binds it."""
    parts = text.split(":", 2)
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"{text} is no subject such as Deployment:apps/v1:web or Job:batch/v1:app=web")
    kind, version, rest = parts
    bound: Object = {"apiVersion": version, "kind": kind, "namespace": namespace}
    if "=" in rest:
        return {**bound, "selector": {"matchLabels": pairs([rest], "--subject")[0]}}
    return {**bound, "name": rest}

"""Whether a call would be let in where it arrives, and by which object, from the objects of the API alone.

Pure: documents in, an answer for each pod behind the service out. Used by the command `ondol mesh check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from ondol.api import objects, pods, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import mesh
from ondol.mesh import explain
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import mesh_options
from ondol.mesh.model.kube import Protocol
from ondol.mesh.policy import Call, Context, Decision, Policies, Workloads, decide
from ondol.mesh.policy.peers import Mode
from ondol.mesh.translate.registry import Registry
from ondol.mesh.translate.translator import Translator, roots
from ondol.mesh.translate.world import World

RESOURCES: Final[Mapping[str, Resource]] = {
    **explain.RESOURCES,
    "Deployment": resources.DEPLOYMENT,
    "ConfigMap": resources.CONFIG_MAP,
}
"""The objects a check is arriving from, by kind."""
OUTSIDE: Final = "outside"
"""The caller that is no pod: it has an address, and no identity."""
_KINDS: Final = {"pod": "Pod", "deployment": "Deployment", "deploy": "Deployment", "service": "Service"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as rules can tell."""

    name: str
    principal: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one decision is for: pods of the service that decide alike."""

    pods: tuple[Key, ...]
    port: int
    principal: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Check:
    caller: Caller
    service: str
    answers: tuple[Answer, ...]
    not_in_force: tuple[str, ...] = ()
    """Objects whose present version is not served, with the reason."""


def check(
    documents: Mapping[str, Sequence[Object]], namespace: str, caller: str, target: str, call: Call
) -> Check:
    """Whether calls are let in: from a pod, `deployment/NAME`, `service/NAME` or `outside`, to a service.

    The call's port is the service's, 0 for its only one; its `is_http` is taken where the port does not say.
    """
    acceptance = Acceptance()
    rules = {name: acceptance.admit(name, documents[name]) for name in KINDS}
    options = mesh_options.options(config_map(documents))
    config = explain.config(documents)
    world = World(
        namespaces=documents["Namespace"],
        pods=documents["Pod"],
        services=documents["Service"],
        endpoint_slices=documents["EndpointSlice"],
        rules=rules,
        options=options,
    )
    registry = Translator(config).translate(world).registry
    policies = Policies(rules, roots(config), options)
    who = _caller(documents, registry, namespace, caller, options.trust_domain)
    host = registry.qualified(target, namespace)
    workloads = Workloads(world.pods, world.services, names_services=True)
    context = Context(partial(_cluster, registry), registry.cluster_domain)
    answers: dict[tuple[int, str, Decision], list[Key]] = {}
    for pod, port, is_http in _behind(registry, host, call):
        policy = policies.of(workloads.of(pod))
        is_plain = not who.principal or not _in_mesh(documents, pod)
        is_plain |= policy.peers.mode(port) is Mode.DISABLE
        arriving = replace(
            call,
            port=port,
            is_http=is_http,
            principal="" if is_plain else who.principal,
            source_ip=who.address or call.source_ip,
            destination_ip=_address(documents, pod) or call.destination_ip,
            host=call.host or host,
        )
        answers.setdefault((port, arriving.principal, decide(policy, arriving, context)), []).append(pod)
    return Check(
        who,
        host,
        tuple(Answer(tuple(keys), *words) for words, keys in answers.items()),
        tuple(explain.not_in_force(documents, acceptance)),
    )


def config_map(documents: Mapping[str, Sequence[Object]]) -> Object | None:
    maps = documents.get("ConfigMap", ())
    return next((each for each in maps if objects.key(each) == mesh_options.CONFIG_MAP), None)


def _cluster(registry: Registry, host: str, port: int) -> str | None:
    service = registry.services.get(host)
    return host if service is not None and service.port(port) is not None else None


# What is called


def _behind(registry: Registry, host: str, call: Call) -> Iterator[tuple[Key, int, bool]]:
    """The pods of a service with their own port, and whether it carries HTTP."""
    service = registry.services.get(host)
    if service is None:
        raise errors.NotFound(f'service "{host}" not found')
    port = service.port(call.port) if call.port else next(iter(service.ports), None)
    if port is None or (not call.port and len(service.ports) > 1):
        numbers = ", ".join(str(each.number) for each in service.ports)
        raise errors.NotFound(f'service "{host}" has no port {call.port or "of its own"}: it has {numbers}')
    is_http = call.is_http if port.protocol is Protocol.SNIFFED else port.is_http and call.is_http
    behind = {
        (endpoint.pod, endpoint.port)
        for view in registry.slices.get(service.key, ())
        for name, endpoint in view
        if name == port.name and endpoint.pod is not None and endpoint.pod in registry.labels
    }
    if not behind:
        raise errors.NotFound(f'service "{host}" has no ready pods: nobody is there to decide')
    yield from ((pod, number, is_http) for pod, number in sorted(behind))


def _document(documents: Mapping[str, Sequence[Object]], kind: str, key: Key) -> Object | None:
    return next((each for each in documents.get(kind, ()) if objects.key(each) == key), None)


def _address(documents: Mapping[str, Sequence[Object]], pod: Key) -> str:
    return str(((_document(documents, "Pod", pod) or {}).get("status") or {}).get("podIP") or "")


def _in_mesh(documents: Mapping[str, Sequence[Object]], key: Key) -> bool:
    pod = _document(documents, "Pod", key)
    namespace = next((each for each in documents["Namespace"] if objects.name(each) == key.namespace), None)
    return pod is not None and mesh.in_mesh(pod, namespace)


# Who calls


def _caller(
    documents: Mapping[str, Sequence[Object]],
    registry: Registry,
    namespace: str,
    text: str,
    trust_domain: str,
) -> Caller:
    if text == OUTSIDE:
        return Caller(OUTSIDE)
    word, slash, rest = text.partition("/")
    kinds = (_KINDS[word.lower()],) if slash and word.lower() in _KINDS else ("Pod", "Deployment", "Service")
    name = rest if slash and word.lower() in _KINDS else text
    own, _, space = name.partition(".")
    key = Key(space or namespace, own)
    for kind in kinds:
        document = _document(documents, kind, key)
        if document is not None:
            return _of(documents, registry, document, kind, trust_domain)
    raise errors.NotFound(f'no {" and no ".join(map(str.lower, kinds))} "{key}" calls')


def _of(
    documents: Mapping[str, Sequence[Object]],
    registry: Registry,
    document: Object,
    kind: str,
    trust_domain: str,
) -> Caller:
    """The identity and address of a pod, or of one that stands for a Deployment or Service."""
    key = objects.key(document)
    pod: Mapping[str, Any] | None = document
    if kind == "Deployment":
        pod = _one(documents, key.namespace, objects.spec(document).get("selector") or {})
        pod = pod or {**(objects.spec(document).get("template") or {})}
    elif kind == "Service":
        behind = sorted(registry.pods_behind(key))
        pod = _document(documents, "Pod", behind[0]) if behind else None
        if pod is None:
            raise errors.NotFound(f'service "{key}" has no ready pods: nobody is there to call')
    pod = pod or {}
    space = next((each for each in documents["Namespace"] if objects.name(each) == key.namespace), None)
    account = objects.spec(pod).get("serviceAccountName") or "default"
    principal = f"{trust_domain}/ns/{key.namespace}/sa/{account}" if mesh.in_mesh(pod, space) else ""
    address = str((pod.get("status") or {}).get("podIP") or "")
    return Caller(f"{kind.lower()}/{key.name}", principal, address)


def _one(
    documents: Mapping[str, Sequence[Object]], namespace: str, selector: Mapping[str, Any]
) -> Object | None:
    labels = (selector.get("matchLabels") or {}).items()
    for pod in documents["Pod"]:
        is_here = objects.namespace(pod) == namespace and not pods.is_terminal(pod)
        if is_here and labels <= objects.labels(pod).items():
            return pod
    return None

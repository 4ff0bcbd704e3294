"""Where a call goes and by which rule, explained to a person from the objects of the API alone.

Pure: `World` is made of the documents, translated as the mesh does, and the call is looked up in the result.
What the proxy itself refused is not known here but from an object's conditions, so such objects are named.
Used by the command `ondol mesh route`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import mesh
from ondol.contracts.mesh import MESH_GATEWAY
from ondol.mesh import addresses, evaluate
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call, Verdict
from ondol.mesh.ingress import expansion
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import grpc
from ondol.mesh.translate import credentials, matches, reach, routes, rules, servers
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.credentials import Authorities, Certificate, Content, Credentials
from ondol.mesh.translate.registry import Gateway, VirtualService
from ondol.mesh.translate.translator import Translator, ingress_ports
from ondol.mesh.translate.world import Translation, World

RESOURCES: Final[Mapping[str, Resource]] = {
    "Namespace": resources.NAMESPACE,
    "Pod": resources.POD,
    "Service": resources.SERVICE,
    "EndpointSlice": resources.ENDPOINT_SLICE,
    "Node": resources.NODE,
    **{name: kind.resource for name, kind in KINDS.items()},
    "Ingress": resources.INGRESS,
    "IngressClass": resources.INGRESS_CLASS,
}
"""The objects an explanation is made from, by kind."""
_OF_RULE: Final = re.compile(r"(?:^|\|)([^|/]+/[^|/]+)\|(t(?:cp|ls)-[0-9]+)(?:\||$)")
_INGRESS_SERVICE: Final = Key(reach.ISTIO_SYSTEM, reach.INGRESS_WORKLOAD)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a call goes."""

    verdict: Verdict
    rules: tuple[str, ...] = ()
    """The VirtualService or Ingress that decides, as `namespace/name`; several where they are joined."""
    not_in_force: tuple[str, ...] = ()
    """Objects whose present version does not serve, with the reason."""
    kind: str = "VirtualService"
    """Of the rules."""
    faults: tuple[str, ...] = ()
    """What is done to some of the requests on purpose, in words."""


def explain(documents: Mapping[str, Sequence[Object]], caller: Key | None, call: Call) -> Explanation:
    """What happens to a call from a pod, or from outside where `caller` is None.

    `NotFound` for a pod that does not exist, or whose calls the mesh does not carry.
    """
    configuration = config(documents)
    around, acceptance = world(documents)
    translation = Translator(configuration).translate(around)
    excluded = tuple(not_in_force(documents, acceptance))
    if caller is None:
        port = ingress_ports(configuration).get(call.port, call.port)
        verdict = evaluate.from_outside(translation.snapshot, replace(call, port=port))
        if carried := _carried(verdict):
            return Explanation(replace(verdict, route=carried[1]), (carried[0],), excluded)
        deciding = list(_at_ingress(around, translation, verdict, port))
        kind = "Ingress" if any(rule.has_plain_hosts for rule in deciding) else "VirtualService"
        described = tuple(_describe_rule(rule, verdict.route) for rule in deciding)
        return Explanation(verdict, described, excluded, kind, tuple(_faults(verdict)))
    plan = translation.pods.get(caller)
    if plan is None:
        raise errors.NotFound(_why_not_carried(documents, caller))
    # What a pod says in TLS nobody reads on the way.
    asked = replace(call, host="") if call.sni else call
    asked = replace(asked, address=_address(translation, call, caller.namespace))
    verdict = evaluate.from_pod(translation.snapshot, plan, asked)
    if carried := _carried(verdict):
        return Explanation(replace(verdict, route=carried[1]), (carried[0],), excluded)
    deciding = list(_in_mesh(translation, verdict, caller.namespace))
    described = tuple(_describe_rule(rule, verdict.route) for rule in deciding)
    return Explanation(verdict, described, excluded, faults=tuple(_faults(verdict)))


def world(documents: Mapping[str, Sequence[Object]]) -> tuple[World, Acceptance]:
    """What the mesh is made from, and which versions of its objects are in force."""
    acceptance = Acceptance()
    rules_ = {name: acceptance.admit(name, documents[name]) for name in KINDS}
    everything = World(
        namespaces=documents["Namespace"],
        pods=documents["Pod"],
        services=documents["Service"],
        endpoint_slices=documents["EndpointSlice"],
        rules=_expanded(documents).beside(rules_),
        credentials=_as_if_there(rules_["Gateway"]),
        nodes=documents.get("Node", ()),
        addresses=addresses.allocated(documents["ServiceEntry"]),
    )
    return everything, acceptance


def _carried(verdict: Verdict) -> tuple[str, str] | None:
    """The rule for connections that made a chain, and its route; the chain's name has both."""
    match = _OF_RULE.search(verdict.chain)
    return (match[1], match[2]) if match and not verdict.table else None


def _as_if_there(gateways: Sequence[Gateway]) -> Credentials:
    """Credentials for all that name them: what is in Secrets does not decide where calls go."""
    keys = {
        key
        for gateway in gateways
        for server in gateway.spec.servers
        for key in credentials.named(gateway.namespace, server.tls)
    }
    return Credentials(
        {
            key: Content(Certificate(str(key), "", b"", b""), authorities=Authorities(str(key), "", b""))
            for key in keys
        }
    )


def _expanded(documents: Mapping[str, Sequence[Object]]) -> expansion.Expansion:
    """What Ingresses are; over TLS they lead where they lead without."""
    around = expansion.Surroundings({objects.key(each): each for each in documents["Service"]})
    return expansion.expand(documents.get("Ingress", ()), documents.get("IngressClass", ()), around)


def config(documents: Mapping[str, Sequence[Object]]) -> MeshConfig:
    """The mesh as it runs there, as far as the API tells: which port is the ingress."""
    service = next((each for each in documents["Service"] if objects.key(each) == _INGRESS_SERVICE), {})
    ports = [int(each["port"]) for each in objects.spec(service).get("ports") or ()]
    port, tls_port = (*ports, *(8080, 8443)[len(ports) :])[:2]
    paths = (Path("/"), "unix:/", "unix:/", Path("/"))
    return MeshConfig(*paths, ingress_port=port, ingress_tls_port=tls_port)


def _why_not_carried(documents: Mapping[str, Sequence[Object]], caller: Key) -> str:
    pod = next((pod for pod in documents["Pod"] if objects.key(pod) == caller), None)
    if pod is None:
        return f'pods "{caller.name}" not found'
    namespace = next((n for n in documents["Namespace"] if objects.name(n) == caller.namespace), None)
    if not mesh.in_mesh(pod, namespace):
        return f"pod {caller} is not in the mesh: its calls go where they are made to"
    return f"pod {caller} does not run: nothing carries its calls"


def _address(translation: Translation, call: Call, namespace: str) -> str:
    """Where the pod connects to: the address of the service it names, if it is one."""
    registry = translation.registry
    service = registry.service(registry.qualified(call.target, namespace), namespace)
    return service.addresses[0] if service is not None and service.addresses else call.address


def _in_mesh(translation: Translation, verdict: Verdict, namespace: str) -> Iterator[VirtualService]:
    """The rule that governs the virtual host, in the eyes of a namespace."""
    if not verdict.virtual_host:
        return
    heard_as = translation.rules.caller(namespace)
    host = verdict.virtual_host
    is_service = translation.registry.service(host, namespace) is not None
    rule = translation.rules.rule(host, heard_as) if is_service else translation.rules.exact(host, heard_as)
    if rule is not None:
        yield rule


def _at_ingress(
    world: World, translation: Translation, verdict: Verdict, port: int
) -> Iterator[VirtualService]:
    """The rules that are joined at the virtual host and have a route of the verdict's name."""
    registry = translation.registry
    here = servers.at_ports(world.gateways, translation.ingress_ports).get(port, ())
    listening = [
        rule
        for rule in translation.rules.listed
        if matches.gateway_names(rule.spec.gateways, rule.namespace) != {MESH_GATEWAY}
        and rules.heard_at_ingress(rule, registry)
    ]
    for each in rules.admissions(registry, here, listening):
        names = {route.name or f"http-{index}" for index, route in enumerate(each.rule.spec.http)}
        if each.host == verdict.virtual_host and not each.holder and verdict.route in names:
            yield each.rule


def _describe_rule(rule: VirtualService, route: str = "") -> str:
    """Routes of an Ingress have its name in theirs; those of a delegate are told by their names."""
    name = route.partition(":")[0] if rule.has_plain_hosts else rule.origin.name
    delegate = dict(rule.joined).get(route) if route else None
    text = f"{rule.namespace}/{name}"
    return f"{text} with delegate {delegate.namespace}/{delegate.name}" if delegate is not None else text


def _faults(verdict: Verdict) -> Iterator[str]:
    config = m.fault.HTTPFault()
    packed = verdict.message.typed_per_filter_config.get(routes.FAULT)
    if packed is None or not packed.Unpack(config):
        return
    if share := config.delay.percentage.numerator:
        yield f"{config.delay.fixed_delay.ToMilliseconds()} ms of delay for {share / 10_000:g}%"
    if share := config.abort.percentage.numerator:
        of_http = config.abort.WhichOneof("error_type") == "http_status"
        name = config.abort.http_status if of_http else grpc.STATUSES[config.abort.grpc_status]
        yield f"{name} instead of an answer for {share / 10_000:g}%"


def not_in_force(documents: Mapping[str, Sequence[Object]], acceptance: Acceptance) -> Iterator[str]:
    for kind in KINDS:
        for document in documents[kind]:
            refusal = acceptance.refusal(kind, document)
            accepted: Mapping[str, Any] = conditions.get(document, mesh.ACCEPTED) or {}
            if refusal is not None:
                yield f"{kind} {objects.key(document)}: {refusal.message}"
            elif accepted.get("status") == "False":
                yield f"{kind} {objects.key(document)}: {accepted.get('message') or accepted.get('reason')}"

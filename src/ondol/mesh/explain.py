"""Where a call goes and by which rule, explained to a person from the objects of the API alone.

Pure: `World` is made of the documents, translated as the mesh does, and the call is looked up in the result.
What the proxy itself refused is not known here but from an object's conditions, so such objects are named.
Used by the command `ondol mesh route`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import mesh
from ondol.contracts.mesh import MESH_GATEWAY
from ondol.mesh import evaluate
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call, Verdict
from ondol.mesh.ingress import expansion
from ondol.mesh.kinds import KINDS
from ondol.mesh.translate import matches, reach, rules
from ondol.mesh.translate.registry import VirtualService
from ondol.mesh.translate.translator import Translator, ingress_ports
from ondol.mesh.translate.world import Translation, World

RESOURCES: Final[Mapping[str, Resource]] = {
    "Namespace": resources.NAMESPACE,
    "Pod": resources.POD,
    "Service": resources.SERVICE,
    "EndpointSlice": resources.ENDPOINT_SLICE,
    **{name: kind.resource for name, kind in KINDS.items()},
    "Ingress": resources.INGRESS,
    "IngressClass": resources.INGRESS_CLASS,
}
"""The objects an explanation is made from, by kind."""
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


def explain(documents: Mapping[str, Sequence[Object]], caller: Key | None, call: Call) -> Explanation:
    """What happens to a call from a pod, or from outside where `caller` is None.

    `NotFound` for a pod that does not exist, or whose calls the mesh does not carry.
    """
    config = _config(documents)
    acceptance = Acceptance()
    rules_ = {name: acceptance.admit(name, documents[name]) for name in KINDS}
    world = World(
        namespaces=documents["Namespace"],
        pods=documents["Pod"],
        services=documents["Service"],
        endpoint_slices=documents["EndpointSlice"],
        rules=_expanded(documents).beside(rules_),
    )
    translation = Translator(config).translate(world)
    excluded = tuple(_not_in_force(documents, acceptance))
    if caller is None:
        port = ingress_ports(config).get(call.port, call.port)
        verdict = evaluate.from_outside(translation.snapshot, replace(call, port=port))
        deciding = list(_at_ingress(world, translation, verdict, port))
        kind = "Ingress" if any(rule.has_plain_hosts for rule in deciding) else "VirtualService"
        described = tuple(_describe_rule(rule, verdict.route) for rule in deciding)
        return Explanation(verdict, described, excluded, kind)
    plan = translation.pods.get(caller)
    if plan is None:
        raise errors.NotFound(_why_not_carried(documents, caller))
    call = replace(call, address=_address(translation, call, caller.namespace))
    verdict = evaluate.from_pod(translation.snapshot, plan, call)
    return Explanation(verdict, tuple(_in_mesh(translation, verdict, caller.namespace)), excluded)


def _expanded(documents: Mapping[str, Sequence[Object]]) -> expansion.Expansion:
    """What Ingresses are; over TLS they lead where they lead without."""
    around = expansion.Surroundings({objects.key(each): each for each in documents["Service"]})
    return expansion.expand(documents.get("Ingress", ()), documents.get("IngressClass", ()), around)


def _config(documents: Mapping[str, Sequence[Object]]) -> MeshConfig:
    """The mesh as it runs there, as far as the API tells: which port is the ingress."""
    service = next((each for each in documents["Service"] if objects.key(each) == _INGRESS_SERVICE), {})
    port = next((int(each["port"]) for each in objects.spec(service).get("ports") or ()), 8080)
    return MeshConfig(Path("/"), "unix:/", "unix:/", Path("/"), ingress_port=port)


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
    service = registry.services.get(registry.qualified(call.target, namespace))
    return service.addresses[0] if service is not None and service.addresses else call.address


def _in_mesh(translation: Translation, verdict: Verdict, namespace: str) -> Iterator[str]:
    """The rule that governs the virtual host, in the eyes of a namespace."""
    if not verdict.virtual_host:
        return
    heard_as = translation.rules.caller(namespace)
    host = verdict.virtual_host
    is_service = host in translation.registry.services
    rule = translation.rules.rule(host, heard_as) if is_service else translation.rules.exact(host, heard_as)
    if rule is not None:
        yield _describe_rule(rule)


def _at_ingress(
    world: World, translation: Translation, verdict: Verdict, port: int
) -> Iterator[VirtualService]:
    """The rules that are joined at the virtual host and have a route of the verdict's name."""
    registry = translation.registry
    servers = rules.at_ports(world.gateways, translation.ingress_ports).get(port, ())
    listening = [
        rule
        for rule in world.virtual_services
        if matches.gateway_names(rule.spec.gateways, rule.namespace) != {MESH_GATEWAY}
        and rules.heard_at_ingress(rule, registry)
    ]
    for each in rules.admissions(registry, servers, listening):
        names = {route.name or f"http-{index}" for index, route in enumerate(each.rule.spec.http)}
        if each.host == verdict.virtual_host and not each.holder and verdict.route in names:
            yield each.rule


def _describe_rule(rule: VirtualService, route: str = "") -> str:
    """Routes of an Ingress have its name in theirs."""
    name = route.partition(":")[0] if rule.has_plain_hosts else rule.origin.name
    return f"{rule.namespace}/{name}"


def _not_in_force(documents: Mapping[str, Sequence[Object]], acceptance: Acceptance) -> Iterator[str]:
    for kind in KINDS:
        for document in documents[kind]:
            refusal = acceptance.refusal(kind, document)
            accepted: Mapping[str, Any] = conditions.get(document, mesh.ACCEPTED) or {}
            if refusal is not None:
                yield f"{kind} {objects.key(document)}: {refusal.message}"
            elif accepted.get("status") == "False":
                yield f"{kind} {objects.key(document)}: {accepted.get('message') or accepted.get('reason')}"

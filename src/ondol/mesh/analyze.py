"""Everything in the objects of the API that is legal and cannot be meant, and what is refused.

Pure: documents in, findings out, on the mesh's own objects and on those of Kubernetes that are in it. What
the mesh tells of its own by the condition `PassedAnalysis` is among it. Used by the command
`ondol mesh analyze`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import timestamps
from ondol.mesh import addresses, analysis, explain, kubernetes_findings, secrets
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.check import config_map
from ondol.mesh.gateway_api import names
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.findings import REFUSED
from ondol.mesh.kinds.kind import Finding
from ondol.mesh.model import istio, mesh_options
from ondol.mesh.model.istio import Refused
from ondol.mesh.translate import credentials
from ondol.mesh.translate.credentials import Credentials
from ondol.mesh.translate.translator import Translator, roots
from ondol.mesh.translate.world import World

RESOURCES: Final[Mapping[str, Resource]] = {
    **explain.RESOURCES,
    "Deployment": resources.DEPLOYMENT,
    "ConfigMap": resources.CONFIG_MAP,
    "Secret": resources.SECRET,
    "KubernetesGateway": names.GATEWAY,
    "HTTPRoute": names.HTTP_ROUTE,
    "GRPCRoute": names.GRPC_ROUTE,
}
"""The objects an analysis is made from, by kind; what lacks is taken for none."""
_KINDS: Final = {(each.group, each.kind): kind for kind, each in RESOURCES.items()}
_AS_IF_NEW: Final = {"creationTimestamp": "9999-12-31T23:59:59Z"}
"""What is in a file only is younger than all that is there."""


def beside(
    documents: Mapping[str, Sequence[Object]], more: Iterable[Mapping[str, Any]], namespace: str
) -> dict[str, Sequence[Object]]:
    """The objects as they would be with those of files, which take the place of what has their name.

    Files need not say the namespace. What is of no kind of `RESOURCES` is passed over.
    """
    joined = {kind: {objects.key(each): each for each in listed} for kind, listed in documents.items()}
    for each in more:
        kind = _KINDS.get((str(each["apiVersion"]).rpartition("/")[0], each["kind"]), "")
        if kind:
            own = dict(each.get("metadata") or {})
            if RESOURCES[kind].namespaced:
                own.setdefault("namespace", namespace)
            listed = joined.setdefault(kind, {})
            before = listed.get(objects.key({"metadata": own}), {})
            listed[objects.key({"metadata": own})] = {
                **before,
                **each,
                "metadata": {**_AS_IF_NEW, **objects.metadata(before), **own},
            }
    return {kind: list(listed.values()) for kind, listed in joined.items()}


def analyze(documents: Mapping[str, Sequence[Object]], now: float) -> list[Finding]:
    """All findings at a time (seconds since 1970), by kind, namespace and name of the object; each once."""
    there = {kind: documents.get(kind, ()) for kind in RESOURCES}
    configuration = explain.config(there)
    acceptance = Acceptance(roots=roots(configuration), cluster_domain=configuration.cluster_domain)
    rules = {name: acceptance.admit(name, there[name]) for name in KINDS}
    world = World(
        namespaces=there["Namespace"],
        pods=there["Pod"],
        services=there["Service"],
        endpoint_slices=there["EndpointSlice"],
        rules=rules,
        credentials=Credentials({objects.key(each): secrets.content(each) for each in there["Secret"]}),
        nodes=there["Node"],
        options=mesh_options.options(config_map(there)),
        addresses=addresses.allocated(there["ServiceEntry"]),
    )
    listed = analysis.findings(world, Translator(configuration).translate(world))
    listed += _refused(there, acceptance)
    listed += _expired(world, now)
    listed += kubernetes_findings.findings(there)
    return sorted(dict.fromkeys(listed), key=lambda each: (each.origin.key, each.code))


def _refused(documents: Mapping[str, Sequence[Object]], acceptance: Acceptance) -> Iterator[Finding]:
    """What is not in force, and what is odd about it by itself if it can be read."""
    for kind in KINDS.values():
        for document in documents[kind.name]:
            origin = acceptance.origin(kind.name, document)
            refusal = acceptance.refusal(kind.name, document)
            if refusal is not None:
                yield Finding(origin, REFUSED, f"{refusal.reason}: {refusal.message}")
                with suppress(Refused):
                    yield from kind.alone(kind.rule(document))


def _expired(world: World, now: float) -> Iterator[Finding]:
    """Certificates of Gateways that no client takes any more, or not yet."""
    for gateway in world.gateways:
        for index, server in enumerate(gateway.spec.servers):
            if server.tls is None or server.tls.mode not in istio.TERMINATING_MODES:
                continue
            shown = credentials.resolved(server.tls, gateway.namespace, world.credentials)
            for certificate in shown.certificates:
                since, until = secrets.validity(certificate)
                if not since <= now <= until:
                    when = f"from {timestamps.rfc3339(since)} to {timestamps.rfc3339(until)}"
                    text = f"spec.servers[{index}].tls: the certificate of {certificate.name} is valid {when}"
                    yield Finding(gateway.origin, credentials.UNUSABLE, text)

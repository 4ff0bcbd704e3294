"""What the proxy would do with a request of a table, and change on the way: read from the snapshot."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mesh.gateway_conformance import tables
from tests.mesh.gateway_conformance.tables import Case

from ondol.api import objects
from ondol.mesh import evaluate
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call, Verdict
from ondol.mesh.gateway_api import expansion
from ondol.mesh.gateway_api.expansion import Expansion, Objects, Surroundings
from ondol.mesh.gateway_api.listeners import Place
from ondol.mesh.model import routing
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.credentials import Certificate, Content, Credentials
from ondol.mesh.translate.translator import Translator, ingress_ports, port_problem
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds.types import Snapshot

CONFIG = MeshConfig(
    netns_dir=Path("/run/netns"),
    xds_address="unix:/x",
    admin_address="unix:/y",
    bootstrap_file=Path("/z"),
    ingress_port=18080,
    open_ports=(range(80, 81), range(443, 444), range(1024, 65536)),
)


@dataclass(frozen=True)
class Served:
    """A case with everything that was made of it."""

    case: Case
    expansion: Expansion
    translation: Translation


def serve(case: Case) -> Served:
    listed = case.objects()
    services = listed["Service"]
    keys = [objects.Key(*name.split("/")) for name in case.document.get("secrets") or ()]
    contents = {key: Content(Certificate(str(key), "1", b"chain", b"key")) for key in keys}
    around = Surroundings(
        {objects.key(each): each for each in services},
        listed["Namespace"],
        contents,
        Place(ingress_ports(CONFIG), lambda number: port_problem(CONFIG, number)),
    )
    expanded = expansion.expand(Objects(listed), around)
    world = World(
        namespaces=listed["Namespace"],
        pods=[_pod(name) for name in tables.BASE["namespaces"]],
        services=services,
        endpoint_slices=listed["EndpointSlice"],
        rules=expanded.beside({"Gateway": [], "VirtualService": [], "DestinationRule": []}),
        credentials=Credentials(contents),
    )
    return Served(case, expanded, Translator(CONFIG).translate(world))


def _pod(namespace: str) -> objects.Object:
    return {
        "metadata": {
            "name": "caller",
            "namespace": namespace,
            "uid": f"uid-{namespace}",
            "resourceVersion": "1",
        },
        "spec": {},
        "status": {"conditions": [{"type": "PodReadyToStartContainers", "status": "True"}]},
    }


@dataclass(frozen=True)
class Answer:
    """What comes of a request; of the parts that were not asked for nothing is said."""

    status: int = 200
    backends: Mapping[str, int] = field(default_factory=dict)
    """Weight by `namespace/name`; `none` for a share that is answered 500."""
    location: str = ""
    host: str = ""
    path: str = ""
    mirrors: Mapping[str, float] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """By backend, what becomes of headers of the request: the value, or None where it is taken away."""
    answer: Mapping[str, str | None] = field(default_factory=dict)


def answer(served: Served, request: Mapping[str, Any]) -> Answer:
    verdict = _verdict(served, request)
    route = verdict.message
    if verdict.status:
        location = _location(route, request) if route.HasField("redirect") else ""
        return Answer(verdict.status, location=location)
    if not any(_has_endpoints(verdict, name) for name in verdict.clusters):
        return Answer(0 if "stream" in request or "tls" in request else 503)
    backends = {_backend(name): weight for name, weight in verdict.clusters.items()}
    return Answer(
        200,
        backends,
        host=route.route.host_rewrite_literal or request.get("host", ""),
        path=_rewritten(route, request.get("path", "/")),
        mirrors=_mirrors(route),
        headers=_headers(route, request.get("headers") or {}),
        answer=_operations(route.response_headers_to_add, route.response_headers_to_remove, {}),
    )


def _verdict(served: Served, request: Mapping[str, Any]) -> Verdict:
    name = request.get("tls", request.get("stream", ""))
    call = Call(
        host="" if "stream" in request else request.get("host", name or "anything.example"),
        path=request.get("path", "/"),
        method=request.get("method", "GET"),
        headers=request.get("headers") or {},
        port=request.get("port", 443 if "tls" in request else 80),
        sni=name,
        chance=request.get("chance", 0),
    )
    snapshot: Snapshot = served.translation.snapshot
    if "from" not in request:
        return evaluate.from_outside(snapshot, call)
    if call.host.startswith("@"):
        address = tables.cluster_address(call.host[1:])
        call = Call(address, call.port, address, call.path, call.method, call.headers)
    plan = served.translation.pods[objects.Key(request["from"], "caller")]
    return evaluate.from_pod(snapshot, plan, call)


def _backend(cluster: str) -> str:
    host = cluster.split("|")[3]
    if host == routing.NOWHERE:
        return "none"
    name, namespace, *_ = host.split(".")
    return f"{namespace}/{name}"


def _has_endpoints(verdict: Verdict, cluster: str) -> bool:
    return bool(verdict.endpoints.get(cluster))


def _rewritten(route: m.routes.Route, path: str) -> str:
    plain, mark, query = path.partition("?")
    action = route.route
    if action.HasField("regex_rewrite"):
        plain = re.sub(action.regex_rewrite.pattern.regex, action.regex_rewrite.substitution, plain, count=1)
    elif action.prefix_rewrite:
        plain = action.prefix_rewrite + plain[len(_matched(route)) :]
    return f"{plain}{mark}{query}"


def _matched(route: m.routes.Route) -> str:
    return str(route.match.path or route.match.prefix)


def _location(route: m.routes.Route, request: Mapping[str, Any]) -> str:
    """As Envoy's documentation has it, with the port of a scheme left out."""
    redirect = route.redirect
    plain, mark, query = request.get("path", "/").partition("?")
    scheme = redirect.scheme_redirect or "http"
    host = redirect.host_redirect or request.get("host", "")
    port = (
        f":{redirect.port_redirect}"
        if redirect.port_redirect not in (0, {"http": 80, "https": 443}[scheme])
        else ""
    )
    if redirect.path_redirect:
        plain = redirect.path_redirect
    elif redirect.prefix_rewrite:
        plain = redirect.prefix_rewrite + plain[len(_matched(route)) :]
    location: str = urllib.parse.urlunsplit((scheme, host + port, plain, query, ""))
    return location + ("?" if mark and not query else "")


def _mirrors(route: m.routes.Route) -> dict[str, float]:
    shares = {}
    for policy in route.route.request_mirror_policies:
        fraction = policy.runtime_fraction.default_value
        name = next(
            each.append.header.value
            for each in policy.request_headers_mutations
            if each.append.header.key.endswith("-to")
        )
        shares[_backend(name)] = (
            100 * fraction.numerator / {0: 100, 1: 10_000, 2: 1_000_000}[fraction.denominator]
        )
    return shares


def _headers(route: m.routes.Route, before: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """A backend's own changes come before the route's, in Envoy: the most particular is done first."""
    own = {_backend(each.name): each for each in route.route.weighted_clusters.clusters}
    whole = _operations(route.request_headers_to_add, route.request_headers_to_remove, before)
    if not own:
        return {"": whole}
    return {
        name: _operations(each.request_headers_to_add, each.request_headers_to_remove, before) | whole
        for name, each in own.items()
    }


def _operations(
    added: Iterable[m.base.HeaderValueOption], removed: Iterable[str], before: Mapping[str, str]
) -> dict[str, str | None]:
    changed: dict[str, str | None] = {name.lower(): None for name in removed}
    for each in added:
        name, value = each.header.key.lower(), each.header.value.replace("%%", "%")
        present = changed.get(name, before.get(name))
        appends = each.append_action == m.base.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
        changed[name] = f"{present},{value}" if appends and present else value
    return changed

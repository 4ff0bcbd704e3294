"""EnvoyFilter: the proxy's own configuration, changed. Its definition, validation and findings.

Its translation is in `translate.patches` and `translate.filters`; decision 0037 says who may write what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ondol.base import regexp
from ondol.contracts import mesh
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.kind import PROGRESS, Finding, Kind, Progress, Word
from ondol.mesh.model import envoy_filter, syntax
from ondol.mesh.model.istio import Refused
from ondol.mesh.model.validation import Problem, Subject
from ondol.mesh.translate import patches, reach
from ondol.mesh.translate.registry import Rule
from ondol.mesh.xds.types import Origin

_SIDES: Final[Mapping[str, str]] = {
    "listener": "LISTENER, LISTENER_FILTER, FILTER_CHAIN, NETWORK_FILTER and HTTP_FILTER",
    "route_configuration": "ROUTE_CONFIGURATION, VIRTUAL_HOST and HTTP_ROUTE",
    "cluster": "CLUSTER",
}
_MISPLACED: Final[Mapping[tuple[str, str], str]] = {
    ("ADD", "ROUTE_CONFIGURATION"): "IST0153",
    ("ADD", "HTTP_ROUTE"): "IST0153",
    ("REMOVE", "ROUTE_CONFIGURATION"): "IST0154",
    ("REMOVE", "HTTP_ROUTE"): "IST0154",
}
_REPLACED: Final = ("HTTP_FILTER", "NETWORK_FILTER", "VIRTUAL_HOST")
_RELATIVE: Final = frozenset({"INSERT_BEFORE", "INSERT_AFTER", "REMOVE", "REPLACE"})


def _validate(spec: envoy_filter.EnvoyFilterSpec, subject: Subject) -> Iterator[Problem]:
    labels = spec.workload_selector.labels if spec.workload_selector is not None else {}
    if wrong := syntax.labels(labels):
        yield Problem(f"spec.workloadSelector.labels: {wrong}")
    for index, patch in enumerate(spec.config_patches):
        for problem in _patch(patch, selects=bool(labels)):
            yield Problem(f"spec.configPatches[{index}]: {problem.message}", problem.reason)
    rule = Rule(Origin(mesh.ENVOY_FILTER.kind, subject.namespace, subject.name, ""), "", spec)
    try:
        patches.compiled(rule, subject.roots, subject.cluster_domain)
    except Refused as refused:
        yield Problem(str(refused), refused.reason)


def _patch(patch: envoy_filter.EnvoyConfigObjectPatch, *, selects: bool) -> Iterator[Problem]:
    operations = patches.OPERATIONS.get(patch.apply_to)
    if operations is None:
        yield Problem(
            "applyTo BOOTSTRAP: one proxy serves all, and starts as the platform says", "Unsupported"
        )
        return
    if patch.patch.operation not in operations:
        text = f"{patch.patch.operation} is not supported for {patch.apply_to}, but {', '.join(operations)}"
        yield Problem(f"patch.operation: {text}", "Unsupported")
    if patch.match.context not in patches.CONTEXTS:
        text = f"{patch.match.context} is not supported, but {', '.join(patches.CONTEXTS)}"
        yield Problem(f"match.context: {text}", "Unsupported")
    if patch.match.context == patches.INBOUND:
        yield from _inbound(patch)
    if patch.apply_to == "CLUSTER" and (selects or patch.match.context not in ("ANY", patches.OUTBOUND)):
        text = "clusters are shared by all who call: no workload and no gateway has its own"
        yield Problem(f"applyTo CLUSTER: {text}", "Unsupported")
    if patch.patch.filter_class != "UNSPECIFIED":
        yield Problem(
            "patch.filterClass is not supported: name the filter to stand before or after", "Unsupported"
        )
    yield from _match(patch)


def _inbound(patch: envoy_filter.EnvoyConfigObjectPatch) -> Iterator[Problem]:
    """What there is of what arrives: one chain of HTTP filters for all ports."""
    if patch.apply_to != "HTTP_FILTER":
        text = f"{patch.apply_to} is not supported for {patches.INBOUND}, but HTTP_FILTER"
        yield Problem(f"applyTo: {text}", "Unsupported")
    match = patch.match.listener
    if match is None:
        return
    chain = match.filter_chain
    if match.port_number is not None or (chain is not None and (chain.destination_port or chain.sni)):
        text = f"ports and names of {patches.INBOUND} are not supported: all ports share their filters"
        yield Problem(f"match.listener: {text}", "Unsupported")


def _match(patch: envoy_filter.EnvoyConfigObjectPatch) -> Iterator[Problem]:
    for name, kinds in _SIDES.items():
        if getattr(patch.match, name) is not None and patch.apply_to not in kinds.replace(",", "").split():
            yield Problem(f"match.{name} is for {kinds}")
    version = patch.match.proxy.proxy_version if patch.match.proxy is not None else ""
    try:
        regexp.compiled(version)
    except ValueError as error:
        yield Problem(f"match.proxy.proxyVersion: {error}")


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    registry = dependencies.translation.registry
    for rule in dependencies.world.of(mesh.ENVOY_FILTER.kind):
        spec: envoy_filter.EnvoyFilterSpec = rule.spec
        labels = spec.workload_selector.labels if spec.workload_selector is not None else {}
        in_root = rule.namespace in registry.roots
        workloads = [of for pod, of in registry.labels.items() if in_root or pod.namespace == rule.namespace]
        if in_root:
            workloads.append(reach.INGRESS_SELECTOR)
        if labels and not any(labels.items() <= of.items() for of in workloads):
            yield Finding(rule.origin, "KIA0004", "workloadSelector: no workload has its labels")


def _alone(rule: Rule[envoy_filter.EnvoyFilterSpec]) -> Iterator[Finding]:
    """What Istio would not do as it is written, or only in an order that nobody said."""
    of_a_version: set[str] = set()
    for index, each in enumerate(rule.spec.config_patches):
        operation, name = each.patch.operation, _filter_name(each)
        place = f"spec.configPatches[{index}]: {operation}"
        if code := _MISPLACED.get((operation, each.apply_to)):
            yield Finding(rule.origin, code, f"{place} of {each.apply_to} is nothing that Istio does")
        elif operation == "REPLACE" and each.apply_to not in _REPLACED:
            text = f"{place} is for {', '.join(_REPLACED)}, and this is {each.apply_to}"
            yield Finding(rule.origin, "IST0152", text)
        elif operation in _RELATIVE and not rule.spec.priority:
            text = f"{place} depends on what other filters did before: spec.priority says which are first"
            code = "IST0155" if name in of_a_version else "IST0151"
            yield Finding(rule.origin, code, text)
        if each.match.proxy is not None and each.match.proxy.proxy_version:
            of_a_version.add(name)


def _filter_name(patch: envoy_filter.EnvoyConfigObjectPatch) -> str:
    """The filter that a patch puts in or is at."""
    value = patch.patch.value
    if isinstance(value, dict) and value.get("name"):
        return str(value["name"])
    listener = patch.match.listener
    chain = listener.filter_chain if listener is not None else None
    return chain.filter.name if chain is not None and chain.filter is not None else ""


KIND: Final = Kind(
    resource=mesh.ENVOY_FILTER,
    short_name="ef",
    description="Changes the proxy's own configuration where no other kind can say it.",
    spec=envoy_filter.EnvoyFilterSpec,
    fields={
        "EnvoyFilterSpec": {
            "configPatches": "The changes, in order.",
            "workloadSelector": "The workloads for which they hold; by default all of the namespace.",
            "priority": "The lower are applied first; those of root namespaces before all others.",
        },
        "LabelSelector": {"labels": "Labels that they have."},
        "EnvoyConfigObjectPatch": {
            "applyTo": "What is changed.",
            "match": "Which of them.",
            "patch": "How.",
        },
        "EnvoyConfigObjectMatch": {
            "context": "SIDECAR_OUTBOUND (what pods call), SIDECAR_INBOUND (what arrives), GATEWAY or ANY.",
            "proxy": "Which proxies, by what they are.",
            "listener": "Which listener, chain and filter.",
            "routeConfiguration": "Which route table, host and route.",
            "cluster": "Which cluster.",
        },
        "ProxyMatch": {
            "proxyVersion": "A regular expression on Istio's version; ours answers to 1.31.0.",
            "metadata": "Metadata that the proxy has; ours has none.",
        },
        "ListenerMatch": {
            "portNumber": "The port that is called.",
            "name": "virtualOutbound, virtualInbound, or 0.0.0.0_ and a port.",
            "filterChain": "Which chain of it.",
            "listenerFilter": "Which filter of it.",
        },
        "FilterChainMatch": {
            "name": "Its name.",
            "sni": "The name in the hello that it is for.",
            "filter": "Which network filter of it.",
            "destinationPort": "The port that is called.",
        },
        "FilterMatch": {"name": "Its name.", "subFilter": "Which HTTP filter in it."},
        "SubFilterMatch": {"name": "Its name."},
        "RouteConfigurationMatch": {
            "portNumber": "The port that is called.",
            "gateway": "A Gateway, as namespace/name.",
            "name": "The port, or http. and the port at a gateway.",
            "vhost": "Which virtual host.",
        },
        "VirtualHostMatch": {
            "name": "A service's full name and port.",
            "domainName": "A name to which it answers.",
            "route": "Which route of it.",
        },
        "RouteMatch": {"name": "Its name.", "action": "What it does."},
        "ClusterMatch": {
            "portNumber": "The service's port.",
            "service": "The service's full name.",
            "subset": "The subset.",
            "name": "The cluster's whole name.",
        },
        "Patch": {
            "operation": "What is done.",
            "value": "What is merged, added or put in its place, as Envoy writes it.",
            "filterClass": "Only UNSPECIFIED.",
        },
    },
    versions=("v1alpha3",),
    validate=_validate,
    alone=_alone,
    survey=_survey,
    progress=dict(PROGRESS)
    | {Progress.UNUSED: Word("Unknown", "NotInUse", "nothing that it matches is there")},
)

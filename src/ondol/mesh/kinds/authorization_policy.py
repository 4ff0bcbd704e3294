"""AuthorizationPolicy: who may call what. Its definition and its findings.

Its validation is in `model.security_validation`, its translation in `policy.authorization`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from ondol.contracts import mesh
from ondol.mesh import security_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds import attachment
from ondol.mesh.kinds.findings import DENIES_ALL_TCP, NO_PROVIDER, under
from ondol.mesh.kinds.kind import SECURITY_VERSIONS, Column, Finding, Kind
from ondol.mesh.model import mesh_options, security, security_validation
from ondol.mesh.policy import attributes, authorization, selection
from ondol.mesh.policy.attributes import OF_CALLER, OF_HTTP
from ondol.mesh.policy.authorization import AuthorizationPolicy
from ondol.mesh.policy.context import Context
from ondol.mesh.policy.peers import Mode
from ondol.mesh.translate import hosts
from ondol.mesh.translate.registry import Registry

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"})
_GRPC_METHOD: Final = re.compile(r"/.+/.+")


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    rules = dependencies.world.of(selection.AUTHORIZATION)
    if not rules:
        return
    pods = attachment.Pods(dependencies)
    for rule in rules:
        yield from attachment.without_pods(rule, pods)
        yield from _sources(rule, dependencies)
        yield from _operations(rule, dependencies.translation.registry)
        yield from _without_certificates(rule, dependencies)
        yield from _tcp(rule)
    yield from _providers(dependencies, pods)


def _sources(rule: AuthorizationPolicy, dependencies: Dependencies) -> Iterator[Finding]:
    spaces = attachment.namespaces(dependencies)
    accounts = _accounts(dependencies)
    domains = dict.fromkeys((mesh_options.TRUST_DOMAIN, *dependencies.world.options.trust_domains))
    for index, each in enumerate(rule.spec.rules):
        for source in (one.source or security.Source() for one in each.from_ or ()):
            for name in (*source.namespaces, *source.not_namespaces):
                if not any(_names(name, space) for space in spaces):
                    text = f"spec.rules[{index}]: there is no namespace {name}"
                    yield from under(rule.origin, text, "KIA0101", "IST0101")
            for name in (*source.principals, *source.not_principals):
                domain, _, path = name.partition("/ns/")
                owner, middle, account = path.partition("/sa/")
                if middle and "*" not in domain and domain not in domains:
                    text = (
                        f"spec.rules[{index}]: {name} is of no trust domain of the mesh: {', '.join(domains)}"
                    )
                    yield Finding(rule.origin, "KIA0108", text)
                elif middle and "*" not in path and (owner, account) not in accounts:
                    yield Finding(
                        rule.origin, "KIA0106", f"spec.rules[{index}]: no pod runs as the principal {name}"
                    )


def _names(pattern: str, name: str) -> bool:
    """Whether a text of a rule, with a `*` before or behind it, is a name's."""
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _accounts(dependencies: Dependencies) -> frozenset[tuple[str, str]]:
    """The service accounts by which pods run, with their namespaces; accounts themselves are not watched."""
    return frozenset(
        (pod["metadata"]["namespace"], (pod.get("spec") or {}).get("serviceAccountName") or "default")
        for pod in dependencies.world.pods
    )


def _operations(rule: AuthorizationPolicy, registry: Registry) -> Iterator[Finding]:
    for index, each in enumerate(rule.spec.rules):
        for operation in (one.operation or security.Operation() for one in each.to or ()):
            for name in (*operation.methods, *operation.not_methods):
                is_method = "*" in name or name in _METHODS or _GRPC_METHOD.fullmatch(name)
                if not is_method:
                    yield Finding(rule.origin, "KIA0102", f"spec.rules[{index}]: {name} is no HTTP method")
            for name in (*operation.hosts, *operation.not_hosts):
                if not _exists(name, rule.namespace, registry):
                    yield Finding(rule.origin, "KIA0104", f"spec.rules[{index}]: no service has host {name}")


def _exists(host: str, namespace: str, registry: Registry) -> bool:
    """Whether a host inside the cluster is a service's; of others nobody here knows."""
    name = host.rpartition(":")[0] or host
    if "*" in name or not name.endswith(f".svc.{registry.cluster_domain}"):
        return True
    return hosts.qualified(name, namespace, registry.cluster_domain, registry.services) in registry.services


def _without_certificates(rule: AuthorizationPolicy, dependencies: Dependencies) -> Iterator[Finding]:
    """What looks at certificates never holds where connections have none."""
    options = dependencies.world.options
    clauses = [attributes.clause(each, rule.namespace, options) for each in rule.spec.rules]
    if not any(test.attribute in OF_CALLER for clause in clauses for test in clause.tests):
        return
    for peers in dependencies.world.of(selection.PEER):
        mtls = peers.spec.mtls
        is_here = peers.namespace == rule.namespace and not peers.spec.labels
        if is_here and mtls is not None and mtls.mode == Mode.DISABLE:
            other = f"{peers.namespace}/{peers.origin.name}"
            text = f"it needs mutual TLS, which PeerAuthentication {other} disables"
            yield Finding(rule.origin, "KIA0105", text)


def _tcp(rule: AuthorizationPolicy) -> Iterator[Finding]:
    """Istio's warning: DENY rules of HTTP alone deny every connection that is not HTTP."""
    if rule.spec.action != "DENY":
        return
    for index, each in enumerate(rule.spec.rules):
        of_port = any((one.operation or security.Operation()).ports for one in each.to or ())
        of_who = any(
            getattr(one.source or security.Source(), name)
            for one in each.from_ or ()
            for name in security.Source.__struct_fields__
            if "request_principals" not in name
        )
        has_http = any(
            test.attribute in OF_HTTP
            for test in attributes.clause(each, rule.namespace, mesh_options.DEFAULTS).tests
        )
        if has_http and not of_port and not of_who:
            text = (
                f"spec.rules[{index}] will deny all traffic to TCP ports under its scope due to the use of "
                "only HTTP attributes in a DENY rule; it is recommended to explicitly specify the port"
            )
            yield Finding(rule.origin, DENIES_ALL_TCP, text)


def _providers(dependencies: Dependencies, pods: attachment.Pods) -> Iterator[Finding]:
    """CUSTOM policies for which nobody can be asked: all that they match is denied."""
    registry, options = dependencies.translation.registry, dependencies.world.options
    custom = [rule for rule in dependencies.world.of(selection.AUTHORIZATION) if rule.spec.action == "CUSTOM"]
    context = Context(partial(_port, registry), registry.cluster_domain)
    by_pod: dict[object, dict[str, list[AuthorizationPolicy]]] = {}
    for rule in custom:
        name = authorization.provider_name(rule)
        problem = authorization.problem(options.provider(name), context)
        if problem:
            yield Finding(rule.origin, NO_PROVIDER, f"{problem}: all that it matches is denied")
        for key in pods.selected(rule):
            by_pod.setdefault(key, {}).setdefault(name, []).append(rule)
    several = {
        rule.origin
        for members in by_pod.values()
        if len(members) > 1
        for rules in members.values()
        for rule in rules
    }
    for origin in sorted(several):
        yield Finding(origin, NO_PROVIDER, authorization.SEVERAL)


def _port(registry: Registry, host: str, port: int) -> str | None:
    service = registry.services.get(host)
    return host if service is not None and service.port(port) is not None else None


KIND: Final = Kind(
    resource=mesh.AUTHORIZATION_POLICY,
    short_name="ap",
    description="Who may call what, of the pods it is for.",
    spec=security.AuthorizationPolicySpec,
    fields=security_descriptions.FIELDS,
    columns=(Column("Action", ".spec.action"),),
    versions=SECURITY_VERSIONS,
    validate=security_validation.authorization_policy,
    of_workloads=True,
    alone=attachment.of_gateways,
    survey=_survey,
    progress=attachment.PROGRESS,
)

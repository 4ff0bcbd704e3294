"""A DomainMapping's children and conditions: pure. Who reads and writes them is `domainmapping`.

The name leads to what the Route of the reference leads to, by a VirtualService of its own; a certificate is
shown by an Ingress that has nothing but it, which any controller of Ingresses understands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import cluster, ingress, mesh, serving
from ondol.contracts.serving import HTTP_PORT
from ondol.serverless.serving import routing, verdicts, wellknown
from ondol.serverless.serving.documents import child_of
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.verdicts import OK, Verdict

CONDITIONS: Final = ("CertificateProvisioned", "DomainClaimed", "IngressReady", "ReferenceResolved")
MANAGED: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "ondol-serving"
"""On claims that were made for a mapping, and go with it."""
REDIRECTED: Final = "redirected"
HTTP_PROTOCOL: Final = ("networking.knative.dev/http-protocol", "networking.knative.dev/httpProtocol")
KINDS: Final = {
    ("Service", serving.SERVICE.api_version): serving.ROUTE,  # its Route has its name
    ("Route", serving.ROUTE.api_version): serving.ROUTE,
}
"""What a reference may name besides a Service of Kubernetes, by kind and version."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a mapping's requests go: rules without matches, the last of them for all."""

    rules: tuple[Object, ...]


def reference_of(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    reference: Mapping[str, Any] = objects.spec(mapping).get("ref") or {}
    return reference


def is_of_kubernetes(reference: Mapping[str, Any]) -> bool:
    return reference.get("kind") == "Service" and (reference.get("apiVersion") or "v1") == "v1"


def backend_of_route(rules: Mapping[str, Any]) -> Backend:
    """Those of a Route's VirtualService that its own name has, which are the last, and tags by header."""
    http = list(objects.spec(rules).get("http") or ())
    own = [_names(rule) for rule in http[-1:]]
    chosen = [rule for rule in http if _names(rule) in own or "headers" in _conditions(rule)]
    return Backend(tuple(_without_names(rule) for rule in chosen))


def _names(rule: Mapping[str, Any]) -> list[Object]:
    """Whom a rule is for, whatever else it asks for."""
    listed = [{k: v for k, v in match.items() if k != "method"} for match in rule.get("match") or ()]
    return [] if "headers" in _conditions(rule) else listed


def _conditions(rule: Mapping[str, Any]) -> Object:
    """What a rule asks for beside names, which is the same in each of its matches."""
    first: Object = next(iter(rule.get("match") or ()), {})
    return {key: first[key] for key in ("headers", "method") if key in first}


def _without_names(rule: Mapping[str, Any]) -> Object:
    conditions_ = _conditions(rule)
    copied = {key: value for key, value in rule.items() if key != "match"}
    return copied | ({"match": [conditions_]} if conditions_ else {})


def backend_of_service(service: Mapping[str, Any]) -> Backend | None:
    """Its port 80, or its only one; None if it has several and none is that."""
    ports = [int(p["port"]) for p in objects.spec(service).get("ports") or ()]
    if HTTP_PORT not in ports and len(ports) != 1:
        return None
    host = cluster.service_host(objects.name(service), objects.namespace(service))
    destination = {"host": host, "port": {"number": HTTP_PORT if HTTP_PORT in ports else ports[0]}}
    added = {"request": {"add": {"forwarded": routing.FORWARDED}}}
    return Backend(({"route": [{"destination": destination}], "headers": added, "retries": routing.RETRIES},))


def secret_name(mapping: Mapping[str, Any]) -> str:
    return str((objects.spec(mapping).get("tls") or {}).get("secretName") or "")


def is_redirected(mapping: Mapping[str, Any], *, by_default: bool) -> bool:
    """Whether plain HTTP is sent on to HTTPS; only where there is a certificate."""
    notes = objects.annotations(mapping)
    word = next((notes[key] for key in HTTP_PROTOCOL if key in notes), "")
    asked = word.lower() == REDIRECTED if word else by_default
    return asked and bool(secret_name(mapping))


def virtual_service(
    mapping: Mapping[str, Any], backend: Backend, naming: Naming, *, redirects: bool = False
) -> Object:
    child = child_of(mapping, "VirtualService", objects.name(mapping), mesh.API_VERSION)
    child["metadata"]["labels"] = {wellknown.DOMAIN_LABEL: objects.name(mapping)}
    gateways = [mesh.INGRESS, *((ingress.HTTPS,) if secret_name(mapping) else ())]
    redirect: Object = {
        "match": [{"gateways": [mesh.INGRESS]}],
        "redirect": {"scheme": "https", "port": naming.public_tls_port, "redirectCode": 301},
    }
    child["spec"] = {
        "hosts": [objects.name(mapping)],
        "gateways": gateways,
        "http": [*((redirect,) if redirects else ()), *backend.rules],
    }
    return child


def certificate_ingress(mapping: Mapping[str, Any]) -> Object:
    """An Ingress without paths: all it does is to have the name's certificate shown."""
    name = objects.name(mapping)
    child = child_of(mapping, "Ingress", name, "networking.k8s.io/v1")
    child["metadata"]["labels"] = {wellknown.DOMAIN_LABEL: name}
    child["spec"] = {
        "ingressClassName": ingress.CLASS,
        "tls": [{"hosts": [name], "secretName": secret_name(mapping)}],
        "rules": [{"host": name}],
    }
    return child


def claim(mapping: Mapping[str, Any]) -> Object:
    """The claim that is made for a mapping where claims may make themselves."""
    return {
        "apiVersion": serving.DOMAIN_CLAIM.api_version,
        "kind": serving.DOMAIN_CLAIM.kind,
        "metadata": {"name": objects.name(mapping), "labels": {MANAGED: MANAGER}},
        "spec": {"namespace": objects.namespace(mapping)},
    }


def claimed(mapping: Mapping[str, Any], present: Mapping[str, Any] | None) -> Verdict:
    """Whether the mapping's namespace may use the name; without a claim nobody may."""
    name, namespace = objects.name(mapping), objects.namespace(mapping)
    if present is None:
        return Verdict(
            "False",
            "DomainAlreadyClaimed",
            f'no ClusterDomainClaim found for domain "{name}" '
            "(and autocreate-cluster-domain-claims property is not true)",
        )
    owner = objects.spec(present).get("namespace")
    if owner != namespace:
        text = f'The domain name is claimed by namespace "{owner}" (ClusterDomainClaim "{name}")'
        return Verdict("False", "DomainAlreadyClaimed", text)
    return OK


def certified(mapping: Mapping[str, Any], *, has_secret: bool) -> Verdict:
    name = secret_name(mapping)
    if not name:
        return Verdict("True", "TLSNotEnabled", "external-domain-tls is not enabled")
    if not has_secret:
        text = f'there is no Secret "{name}" of type kubernetes.io/tls in this namespace'
        return Verdict("Unknown", "CertificateNotReady", text)
    return Verdict("True", "CertificateExternallyProvided", "TLS certificate was provided externally")


def unresolved(message: str) -> Verdict:
    return Verdict("False", "ResolveFailed", message)


def status(
    mapping: Mapping[str, Any], outcomes: Mapping[str, Verdict], naming: Naming, *, now: float
) -> Object:
    """The status: where the name is reached, and how far each of its parts is."""
    name = objects.name(mapping)
    url = naming.secure(name) if secret_name(mapping) else naming.external(name)
    rest = {type_: Verdict("Unknown") for type_ in CONDITIONS}
    return {
        "observedGeneration": objects.generation(mapping),
        "url": url,
        "address": {"url": url},
        "conditions": verdicts.with_ready(mapping, {**rest, **outcomes}, of_ready=_ORDER, now=now),
    }


_ORDER: Sequence[str] = ("DomainClaimed", "ReferenceResolved", "CertificateProvisioned", "IngressReady")
"""What stands first says most about what to mend."""

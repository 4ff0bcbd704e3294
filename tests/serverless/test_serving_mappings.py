"""DomainMappings: claims, references, certificates, and what the mesh is told."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.serverless.serving_world import NAMESPACE, Platform

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.contracts import ingress, mesh, serving
from ondol.serverless.config import values
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import mappings, validation
from ondol.serverless.serving.names import Naming

NAME = "shop.example"
HELLO = {"kind": "Service", "apiVersion": "serving.knative.dev/v1", "name": "hello"}
SECURE: Mapping[str, Any] = {"tls": {"secretName": "shop-tls"}}


def mapping(reference: Mapping[str, Any] = HELLO, namespace: str = NAMESPACE, **more: Any) -> Object:
    return {
        "apiVersion": "serving.knative.dev/v1beta1",
        "kind": "DomainMapping",
        "metadata": {"name": NAME, "namespace": namespace, **more.pop("metadata", {})},
        "spec": {"ref": dict(reference), **more},
    }


def claim(namespace: str = NAMESPACE) -> Object:
    return {
        "apiVersion": "networking.internal.knative.dev/v1alpha1",
        "kind": "ClusterDomainClaim",
        "metadata": {"name": NAME},
        "spec": {"namespace": namespace},
    }


def outcome(obj: Object, type_: str) -> tuple[str, str]:
    condition = conditions.get(obj, type_) or {}
    return str(condition.get("status")), str(condition.get("reason") or "")


def has(type_: str, status: str, reason: str = "") -> Callable[[Object], bool]:
    return lambda obj: outcome(obj, type_) == (status, reason)


# --- in a platform


@pytest.mark.anyio
async def test_a_name_is_served_once_it_is_claimed(platform: Platform) -> None:
    """An administrator's claim gives it to a namespace; it leads to what the service's own name leads to."""
    await platform.serve("one", traffic=[{"latestRevision": True, "percent": 100, "tag": "now"}])
    await platform.ready()
    await platform.client.create(serving.DOMAIN_MAPPING, mapping())
    refused = has("DomainClaimed", "False", "DomainAlreadyClaimed")
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, refused)
    await platform.client.create(serving.DOMAIN_CLAIM, claim())
    live = await platform.eventually(serving.DOMAIN_MAPPING, NAME, has("Ready", "True"))
    assert objects.status(live)["url"] == f"http://{NAME}"
    assert outcome(live, "CertificateProvisioned") == ("True", "TLSNotEnabled")
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, NAME, NAMESPACE)
    assert (rules["spec"]["hosts"], rules["spec"]["gateways"]) == ([NAME], [mesh.INGRESS])
    (rule,) = rules["spec"]["http"]
    assert rule["route"][0]["destination"]["host"] == "hello-00001.default.svc.cluster.local"
    assert "match" not in rule
    await platform.client.delete(serving.DOMAIN_CLAIM, NAME)
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, refused)
    await platform.until_deleted(mesh.VIRTUAL_SERVICE, NAME)


@pytest.mark.anyio
async def test_shares_of_the_route_are_those_of_the_name(platform: Platform) -> None:
    """Also when they change later."""
    await platform.client.create(serving.DOMAIN_CLAIM, claim())
    await platform.serve("one")
    await platform.ready()
    route = {**HELLO, "kind": "Route"}
    await platform.client.create(serving.DOMAIN_MAPPING, mapping(route))
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, has("Ready", "True"))
    shares: list[Object] = [
        {"revisionName": "hello-00001", "percent": 70},
        {"latestRevision": True, "percent": 30},
    ]
    await platform.serve("two", traffic=shares)
    await platform.eventually(
        mesh.VIRTUAL_SERVICE,
        NAME,
        lambda rules: [each["weight"] for each in rules["spec"]["http"][0]["route"]] == [70, 30],
    )


@pytest.mark.anyio
async def test_claims_that_make_themselves_go_with_their_mapping(platform: Platform) -> None:
    """Where `autocreate-cluster-domain-claims` is on; the namespace that came second is told."""
    await platform.client.patch(
        resources.CONFIG_MAP,
        "config-network",
        values.NAMESPACE,
        patch={"data": {"autocreate-cluster-domain-claims": "true"}},
    )
    await platform.client.create(
        resources.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
    )
    await platform.serve("one")
    await platform.ready()
    await platform.client.create(serving.DOMAIN_MAPPING, mapping())
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, has("Ready", "True"))
    await platform.client.create(serving.DOMAIN_MAPPING, mapping(namespace="other"))
    refusal = has("DomainClaimed", "False", "DomainAlreadyClaimed")
    second = await platform.eventually(serving.DOMAIN_MAPPING, NAME, refusal, namespace="other")
    assert f'"{NAMESPACE}"' in (conditions.get(second, "DomainClaimed") or {})["message"]
    await platform.client.delete(serving.DOMAIN_MAPPING, NAME, NAMESPACE)
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, has("DomainClaimed", "True"), namespace="other")


@pytest.mark.anyio
async def test_a_certificate_is_shown_by_an_ingress(platform: Platform) -> None:
    """It is made for that alone; the status says https, and waits for the Secret."""
    await platform.client.create(serving.DOMAIN_CLAIM, claim())
    await platform.serve("one")
    await platform.ready()
    await platform.client.create(serving.DOMAIN_MAPPING, mapping(**SECURE))
    waiting = has("CertificateProvisioned", "Unknown", "CertificateNotReady")
    live = await platform.eventually(serving.DOMAIN_MAPPING, NAME, waiting)
    assert objects.status(live)["url"] == f"https://{NAME}"
    data = {key: base64.b64encode(b"x").decode() for key in ("tls.crt", "tls.key")}
    secret: Object = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data}
    secret["metadata"] = {"name": "shop-tls", "namespace": NAMESPACE}
    await platform.client.create(resources.SECRET, secret)
    live = await platform.eventually(serving.DOMAIN_MAPPING, NAME, has("Ready", "True"))
    assert outcome(live, "CertificateProvisioned") == ("True", "CertificateExternallyProvided")
    shown = await platform.client.get(resources.INGRESS, NAME, NAMESPACE)
    assert shown["spec"] == {
        "ingressClassName": ingress.CLASS,
        "tls": [{"hosts": [NAME], "secretName": "shop-tls"}],
        "rules": [{"host": NAME}],
    }
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, NAME, NAMESPACE)
    assert rules["spec"]["gateways"] == [mesh.INGRESS, ingress.HTTPS]
    await platform.client.patch(serving.DOMAIN_MAPPING, NAME, NAMESPACE, patch={"spec": {"tls": None}})
    await platform.until_deleted(resources.INGRESS, NAME)


@pytest.mark.anyio
async def test_what_a_reference_may_name(platform: Platform) -> None:
    """A plain Service with port 80 or a single port; what is missing or of another kind is told."""
    await platform.client.create(serving.DOMAIN_CLAIM, claim())
    plain: Object = {"kind": "Service", "apiVersion": "v1", "name": "web"}
    await platform.client.create(serving.DOMAIN_MAPPING, mapping(plain))
    missing = has("ReferenceResolved", "False", "ResolveFailed")
    live = await platform.eventually(serving.DOMAIN_MAPPING, NAME, missing)
    assert (conditions.get(live, "Ready") or {})["message"] == 'services "web" not found'
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
    }
    await platform.client.create(resources.SERVICE, {**service, "spec": {"ports": [{"port": 5000}]}})
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, has("Ready", "True"))
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, NAME, NAMESPACE)
    assert rules["spec"]["http"][0]["route"][0]["destination"]["port"] == {"number": 5000}
    other = {"kind": "Broker", "apiVersion": "eventing.knative.dev/v1", "name": "web"}
    await platform.client.patch(serving.DOMAIN_MAPPING, NAME, NAMESPACE, patch={"spec": {"ref": other}})
    await platform.eventually(serving.DOMAIN_MAPPING, NAME, missing)


# --- pure


@pytest.mark.parametrize(
    ("name", "reference", "fields"),
    [
        ("shop.example", HELLO, []),
        ("shop", HELLO, ["metadata.name"]),
        ("Shop.example", HELLO, ["metadata.name"]),
        ("shop.default.svc.cluster.local", HELLO, ["metadata.name"]),
        ("shop.example", {**HELLO, "namespace": "other"}, ["spec.ref.namespace"]),
        ("shop.example", {"kind": "Service", "name": "hello"}, ["spec.ref.apiVersion"]),
    ],
)
def test_what_is_refused(name: str, reference: Mapping[str, Any], fields: list[str]) -> None:
    """A name that is no domain, or one inside; a reference to another namespace."""
    rules = validation.rules()["domainmappings.serving.knative.dev"]
    obj = mapping(reference, metadata={"name": name, "namespace": NAMESPACE})
    rules.default(obj, None, "ann")
    assert [cause.field for cause in rules.judge(obj, None)[0]] == fields


def test_plain_http_is_redirected_where_it_is_asked_for() -> None:
    """By the mapping or for all, and only where there is a certificate; to the port where HTTPS is."""
    backend = mappings.Backend(({"route": []},))
    note: Object = {"annotations": {"networking.knative.dev/http-protocol": "Redirected"}}
    assert not mappings.is_redirected(mapping(metadata=note), by_default=True)
    assert not mappings.is_redirected(mapping(**SECURE), by_default=False)
    assert mappings.is_redirected(mapping(**SECURE), by_default=True)
    asked = mapping(metadata=note, **SECURE)
    assert mappings.is_redirected(asked, by_default=False)
    rules = mappings.virtual_service(asked, backend, Naming("localhost", 8080, 8443), redirects=True)["spec"][
        "http"
    ]
    assert rules[0]["redirect"] == {"scheme": "https", "port": 8443, "redirectCode": 301}
    assert rules[0]["match"] == [{"gateways": [mesh.INGRESS]}]
    parsed = values.parse(ServingConfig(), "config-network", {"http-protocol": "Redirected"})
    assert parsed.network.redirects


def test_tags_by_header_hold_at_the_name_too() -> None:
    """The rules of tags' own names are left out, those of their header are not."""
    by_header = {"knative-serving-tag": {"exact": "now"}}
    rules = [
        {"match": [{"authority": {"regex": "x"}}], "route": ["tag"]},
        {"match": [{"headers": by_header, "authority": {}}], "route": ["tag"]},
        {"match": [{"gateways": ["mesh"]}], "route": ["all"]},
    ]
    assert mappings.backend_of_route({"spec": {"http": rules}}).rules == (
        {"route": ["tag"], "match": [{"headers": by_header}]},
        {"route": ["all"]},
    )


def test_rules_for_some_methods_stay_for_these() -> None:
    """What may be asked again at the service's name may be at the mapped one, and nothing more."""
    safe = {"method": {"regex": "GET"}}
    by_header = {"headers": {"knative-serving-tag": {"exact": "now"}}}
    rules = [
        {"match": [{"authority": {"regex": "x"}, **safe}], "route": ["tag, safe"]},
        {"match": [{"authority": {"regex": "x"}}], "route": ["tag"]},
        {"match": [{"gateways": ["mesh"], **by_header, **safe}], "route": ["header, safe"]},
        {"match": [{"gateways": ["mesh"], **by_header}], "route": ["header"]},
        {"match": [{"gateways": ["mesh"], **safe}], "route": ["safe"]},
        {"match": [{"gateways": ["mesh"]}], "route": ["all"]},
    ]
    assert mappings.backend_of_route({"spec": {"http": rules}}).rules == (
        {"route": ["header, safe"], "match": [{**by_header, **safe}]},
        {"route": ["header"], "match": [by_header]},
        {"route": ["safe"], "match": [safe]},
        {"route": ["all"]},
    )

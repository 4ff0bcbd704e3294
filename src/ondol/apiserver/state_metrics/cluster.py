"""Nodes, namespaces, leases, certificates, webhooks, and what bounds a namespace."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver.state_metrics import amounts
from ondol.apiserver.state_metrics.families import (
    Family,
    Labels,
    Sample,
    Subject,
    amount,
    condition_statuses,
    created,
    deleted,
    each_of,
    exists,
    info,
    moment,
    named,
    namespaced,
    number,
    once,
    one,
    revision,
)

# Nodes

_ROLE: Final = "node-role.kubernetes.io/"


def _node(node: Object) -> Iterable[Sample]:
    spec, status = objects.spec(node), objects.status(node)
    described = status.get("nodeInfo") or {}
    internal = [each for each in status.get("addresses") or () if each.get("type") == "InternalIP"]
    return info(
        ("kernel_version", str(described.get("kernelVersion") or "")),
        ("os_image", str(described.get("osImage") or "")),
        ("container_runtime_version", str(described.get("containerRuntimeVersion") or "")),
        ("kubelet_version", str(described.get("kubeletVersion") or "")),
        ("kubeproxy_version", "deprecated"),
        ("provider_id", str(spec.get("providerID") or "")),
        ("pod_cidr", str(spec.get("podCIDR") or "")),
        ("system_uuid", str(described.get("systemUUID") or "")),
        ("internal_ip", str(internal[-1].get("address")) if internal else ""),
    )


def _roles(node: Object) -> Iterable[Sample]:
    return [
        ((("role", key.removeprefix(_ROLE)),), 1) for key in objects.labels(node) if key.startswith(_ROLE)
    ]


def _taints(node: Object) -> Iterable[Sample]:
    fields = ("key", "value", "effect")
    for taint in objects.spec(node).get("taints") or ():
        yield from info(*((field, str(taint.get(field) or "")) for field in fields))


def _node_addresses(node: Object) -> Iterable[Sample]:
    for each in objects.status(node).get("addresses") or ():
        yield from info(("type", str(each.get("type"))), ("address", str(each.get("address"))))


NODE: Final = Subject(
    resources.NODE,
    "node",
    named("node"),
    (
        Family("kube_node_info", "The machine and its programs.", _node),
        created("node"),
        deleted("node"),
        Family("kube_node_role", "Its roles.", _roles),
        Family(
            "kube_node_spec_pod_cidrs",
            "The ranges of its pods' addresses.",
            lambda node: [
                ((("pod_cidr", str(each)),), 1) for each in objects.spec(node).get("podCIDRs") or ()
            ],
        ),
        number(
            "kube_node_spec_unschedulable",
            "Whether it takes no new pods.",
            "spec",
            "unschedulable",
            default=0,
        ),
        Family("kube_node_spec_taint", "Its taints.", lambda obj: once(_taints(obj))),
        Family("kube_node_status_addresses", "Its addresses.", lambda obj: once(_node_addresses(obj))),
        Family(
            "kube_node_status_capacity",
            "What it has of each resource.",
            lambda node: amounts.samples(objects.status(node).get("capacity"), of_node=True),
        ),
        Family(
            "kube_node_status_allocatable",
            "What pods can have of each resource.",
            lambda node: amounts.samples(objects.status(node).get("allocatable"), of_node=True),
        ),
        Family("kube_node_status_condition", "Its conditions.", condition_statuses),
    ),
)

NAMESPACE: Final = Subject(
    resources.NAMESPACE,
    "namespace",
    named("namespace"),
    (
        created("namespace"),
        Family(
            "kube_namespace_status_phase",
            "Its phase.",
            lambda obj: each_of(
                "phase", ("Active", "Terminating"), str(objects.status(obj).get("phase") or "Active")
            ),
        ),
        Family("kube_namespace_status_condition", "Its conditions.", condition_statuses),
    ),
)

# Leases


def _holder(lease: Object) -> Iterable[Sample]:
    holder = str(objects.spec(lease).get("holderIdentity") or "")
    for owner in list(objects.owner_references(lease)) or [{"kind": "", "name": ""}]:
        yield from info(
            ("owner_kind", str(owner["kind"])), ("owner_name", str(owner["name"])), ("lease_holder", holder)
        )


LEASE: Final = Subject(
    resources.LEASE,
    "lease",
    namespaced("lease"),
    (
        Family("kube_lease_owner", "Who holds it.", lambda obj: once(_holder(obj))),
        moment("kube_lease_renew_time", "When it was renewed last.", "spec", "renewTime"),
    ),
)

# Certificates


def _request(request: Object) -> Labels:
    signer = str(objects.spec(request).get("signerName") or "")
    return ("certificatesigningrequest", objects.name(request)), ("signer_name", signer)


def _request_conditions(request: Object) -> Iterable[Sample]:
    types = [str(condition.get("type")) for condition in conditions.of(request)]
    for each in ("Approved", "Denied", "Failed"):
        yield (("condition", each.lower()),), types.count(each)


def _certificate_bytes(request: Object) -> Iterable[Sample]:
    try:
        return one(len(base64.b64decode(objects.status(request).get("certificate") or "")))
    except (binascii.Error, ValueError):
        return one(0)


CERTIFICATE_SIGNING_REQUEST: Final = Subject(
    resources.CERTIFICATE_SIGNING_REQUEST,
    "certificatesigningrequest",
    _request,
    (
        created("certificatesigningrequest"),
        Family(
            "kube_certificatesigningrequest_condition",
            "Whether it is approved, denied or failed.",
            _request_conditions,
        ),
        Family("kube_certificatesigningrequest_cert_length", "Bytes of its certificate.", _certificate_bytes),
    ),
)

# Webhooks


def _services(configuration: Object) -> Iterable[Sample]:
    for webhook in configuration.get("webhooks") or ():
        if service := (webhook.get("clientConfig") or {}).get("service"):
            yield from info(
                ("webhook_name", str(webhook.get("name"))),
                ("service_name", str(service.get("name"))),
                ("service_namespace", str(service.get("namespace"))),
            )


def _webhooks(resource: Resource, noun: str) -> Subject:
    family = Family(f"kube_{noun}_webhook_clientconfig_service", "The services that are asked.", _services)
    return Subject(resource, noun, named(noun), (exists(noun), created(noun), revision(noun), family))


MUTATING_WEBHOOKS: Final = _webhooks(resources.MUTATING_WEBHOOK_CONFIGURATION, "mutatingwebhookconfiguration")
VALIDATING_WEBHOOKS: Final = _webhooks(
    resources.VALIDATING_WEBHOOK_CONFIGURATION, "validatingwebhookconfiguration"
)

# What bounds a namespace

_CONSTRAINTS: Final = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")


def _limits(limit_range: Object) -> Iterable[Sample]:
    for limit in objects.spec(limit_range).get("limits") or ():
        for constraint in _CONSTRAINTS:
            for resource, quantity in (limit.get(constraint) or {}).items():
                labels = (
                    ("resource", resource),
                    ("type", str(limit.get("type"))),
                    ("constraint", constraint),
                )
                yield labels, amount(quantity)


LIMIT_RANGE: Final = Subject(
    resources.LIMIT_RANGE,
    "limitrange",
    namespaced("limitrange"),
    (created("limitrange"), Family("kube_limitrange", "What it allows.", lambda obj: once(_limits(obj)))),
)


def _quota(quota: Object) -> Iterable[Sample]:
    for side in ("hard", "used"):
        for resource, quantity in (objects.status(quota).get(side) or {}).items():
            yield (("resource", resource), ("type", side)), amount(quantity)


RESOURCE_QUOTA: Final = Subject(
    resources.RESOURCE_QUOTA,
    "resourcequota",
    namespaced("resourcequota"),
    (created("resourcequota"), Family("kube_resourcequota", "What may be used, and what is.", _quota)),
)


def _budget(suffix: str, field: str, documentation: str) -> Family:
    name = f"kube_poddisruptionbudget_status_{suffix}"
    return number(name, documentation, "status", field, default=0)


POD_DISRUPTION_BUDGET: Final = Subject(
    resources.POD_DISRUPTION_BUDGET,
    "poddisruptionbudget",
    namespaced("poddisruptionbudget"),
    (
        created("poddisruptionbudget"),
        deleted("poddisruptionbudget"),
        _budget("current_healthy", "currentHealthy", "Healthy pods there are."),
        _budget("desired_healthy", "desiredHealthy", "Healthy pods there should be."),
        _budget("pod_disruptions_allowed", "disruptionsAllowed", "Pods that may be disrupted now."),
        _budget("expected_pods", "expectedPods", "Pods it counts."),
        _budget("observed_generation", "observedGeneration", "The generation that its status is of."),
    ),
)

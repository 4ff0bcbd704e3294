"""What `kubectl explain` says of the kinds by which the outside joins the mesh, as `descriptions` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "ServiceEntrySpec": {
        "hosts": "Names by which it is called: full names, or *. and a domain.",
        "addresses": "Addresses at which pods find it, or networks; without any, most entries get one.",
        "ports": "Its ports, and what they speak.",
        "location": "Whether it counts as outside the mesh; on this machine both are called alike.",
        "resolution": "How its addresses are known: NONE, where callers go; STATIC, its endpoints; "
        "DNS, all that the names have; DNS_ROUND_ROBIN, the first; DYNAMIC_DNS, of the name called.",
        "endpoints": "Where it is.",
        "workloadSelector": "Where it is, by the labels of WorkloadEntries and pods of the namespace.",
        "exportTo": "Namespaces for whose calls it holds, as far as it may; . is its own, ~ none.",
        "subjectAltNames": "One of them is in its servers' certificates, where TLS begins in the mesh.",
    },
    "EntryPort": {
        "number": "The port that is called.",
        "name": "By which endpoints name it.",
        "protocol": "HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, MYSQL, REDIS; or bytes tell.",
        "targetPort": "The port of the endpoints, if it is another.",
    },
    "WorkloadSelector": {"labels": "Labels that all have to be there; none at all mean every workload."},
    "WorkloadEntrySpec": {
        "address": "Its address, or a name where names are resolved.",
        "ports": "Its ports by the names of the service's.",
        "labels": "By which it is selected, and in which subset it is.",
        "weight": "Its share of the calls, beside the others'; 1 if there is none.",
        "locality": "Where it is: region/zone/subzone.",
        "serviceAccount": "As whom it would prove itself by mutual TLS.",
    },
    "WorkloadGroupSpec": {
        "metadata": "Labels and annotations of the entries.",
        "template": "What the entries have in common.",
    },
    "ObjectMeta": {"labels": "Labels of the entries.", "annotations": "Annotations of the entries."},
    "SidecarSpec": {
        "workloadSelector": "The pods of the namespace that it is for; without one all of them, and of "
        "every namespace if it stands in istio-system.",
        "egress": "What they may call by way of the mesh; without any, everything.",
        "outboundTrafficPolicy": "What becomes of their calls to all else.",
    },
    "EgressListener": {
        "hosts": "Whom they may call: namespace/name; the namespace may be . (its own), * (any) or ~ (none).",
        "port": "Only calls to this port; listeners without one are for all others.",
        "captureMode": "How calls come to the proxy: all do.",
    },
    "SidecarPort": {
        "number": "The port that is called.",
        "protocol": "What is spoken there, which the services say.",
        "name": "A name for people.",
    },
    "OutboundTrafficPolicy": {
        "mode": "REGISTRY_ONLY refuses calls to what the mesh does not know; ALLOW_ANY lets them pass.",
        "egressProxy": "Where such calls go instead.",
    },
}

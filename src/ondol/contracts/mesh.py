"""What the mesh promises other features: its kinds, which pods it serves, its ingress, its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Resource
from ondol.contracts import cluster

# Pods: who is served, and who they are

MODE_LABEL: Final = "istio.io/dataplane-mode"
"""Istio's label; the value `none` on a pod, or else on its namespace, opts out."""
INJECT: Final = "sidecar.istio.io/inject"
"""Istio's label or annotation of a pod, the label before the annotation; `false` opts out."""
INJECTION_LABEL: Final = "istio-injection"
"""Istio's label of a namespace; `disabled` opts its pods out."""

CANONICAL_NAME: Final = "service.istio.io/canonical-name"
"""Label of a pod: the service as which its calls are traced and counted."""
CANONICAL_REVISION: Final = "service.istio.io/canonical-revision"
"""Label of a pod: which version of that service it is."""

POD_PROGRAMMED: Final = "mesh.ondol.dev/Programmed"
"""Pod condition: the proxy accepted this pod's listeners; containers start after it."""
POD_GUARDED: Final = "mesh.ondol.dev/Guarded"
"""Pod condition, the mesh's: the proxy listens for what arrives, which is to be turned to it from now on.

It stays for as long as the pod has its sandbox, also when no policy asks for it any more.
"""
POD_ARRIVALS_TURNED: Final = "mesh.ondol.dev/ArrivalsTurned"
"""Pod condition, the node's: whatever arrives at a guarded pod by TCP is turned to the proxy."""
PROBES_FROM: Final = "169.254.7.127"
"""From which address the node asks a pod's probes: guarded pods let it past. Istio has the same."""
PODS_TO_COME: Final = "mesh.ondol.dev/pods-to-come"
"""Annotation of a Service whose pods come when it is called: what they will be like, as JSON.

Their `labels` and `annotations`, the `port` at which they are called, for how many `holdSeconds` a connection
may wait for one, and how many requests each connection is to carry (`perConnection`; 0 is no limit).
"""
CARRIES_TLS: Final = "mesh.ondol.dev/carries-tls"
"""Label of an EndpointSlice: its endpoints hand on to the pods of its Service what TLS says, as it is."""
SANDBOX_READY: Final = "PodReadyToStartContainers"
"""Pod condition (Kubernetes' own): network namespace and address are in place."""
ADDRESSES_PROGRAMMED: Final = "ondol.dev/AddressesProgrammed"
"""Condition of Services and pods that did not get an address or port of the machine they ask for."""

_TRUE: Final = frozenset({"", "true", "yes", "y", "on"})


def in_mesh(pod: Mapping[str, Any], namespace: Mapping[str, Any] | None) -> bool:
    """Whether the pod's traffic passes the mesh; what the pod says decides over its namespace."""
    if objects.spec(pod).get("hostNetwork"):
        return False
    chosen = _choice_of_pod(pod)
    if chosen is None and namespace is not None:
        chosen = _choice_of_namespace(objects.labels(namespace))
    return chosen is not False


def _choice_of_pod(pod: Mapping[str, Any]) -> bool | None:
    labels = objects.labels(pod)
    if MODE_LABEL in labels:
        return labels[MODE_LABEL] != "none"
    inject = labels.get(INJECT, objects.annotations(pod).get(INJECT))
    return None if inject is None else inject.strip().lower() in _TRUE


def _choice_of_namespace(labels: Mapping[str, str]) -> bool | None:
    if MODE_LABEL in labels:
        return labels[MODE_LABEL] != "none"
    return False if labels.get(INJECTION_LABEL) == "disabled" else None


# Rules

GROUP: Final = "networking.istio.io"
API_VERSION: Final = f"{GROUP}/v1"
VIRTUAL_SERVICE: Final = Resource(GROUP, "v1", "virtualservices", "VirtualService")
DESTINATION_RULE: Final = Resource(GROUP, "v1", "destinationrules", "DestinationRule")
GATEWAY: Final = Resource(GROUP, "v1", "gateways", "Gateway")
SERVICE_ENTRY: Final = Resource(GROUP, "v1", "serviceentries", "ServiceEntry")
WORKLOAD_ENTRY: Final = Resource(GROUP, "v1", "workloadentries", "WorkloadEntry")
WORKLOAD_GROUP: Final = Resource(GROUP, "v1", "workloadgroups", "WorkloadGroup")
SIDECAR: Final = Resource(GROUP, "v1", "sidecars", "Sidecar")
SECURITY_GROUP: Final = "security.istio.io"
AUTHORIZATION_POLICY: Final = Resource(SECURITY_GROUP, "v1", "authorizationpolicies", "AuthorizationPolicy")
REQUEST_AUTHENTICATION: Final = Resource(
    SECURITY_GROUP, "v1", "requestauthentications", "RequestAuthentication"
)
PEER_AUTHENTICATION: Final = Resource(SECURITY_GROUP, "v1", "peerauthentications", "PeerAuthentication")
TELEMETRY: Final = Resource("telemetry.istio.io", "v1", "telemetries", "Telemetry")
ENVOY_FILTER: Final = Resource(GROUP, "v1alpha3", "envoyfilters", "EnvoyFilter")
PROXY_CONFIG: Final = Resource(GROUP, "v1beta1", "proxyconfigs", "ProxyConfig")
MESH_GATEWAY: Final = "mesh"
"""The gateway name in a VirtualService that means calls between pods."""
DEFAULT_GATEWAY: Final = "ingress"
"""The Gateway of the platform's namespace that admits every host, made to be shared."""
INGRESS: Final = f"{cluster.PLATFORM_NAMESPACE}/{DEFAULT_GATEWAY}"
"""The same as a VirtualService refers to it."""

ACCEPTED: Final = "Accepted"
"""Condition of a rule: it is sound and in force."""
PROGRAMMED: Final = "Programmed"
"""Condition of a rule: the proxy runs everything that was made from this generation of it."""

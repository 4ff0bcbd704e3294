"""Names that hold in the whole cluster: its domain, its own namespaces, Kubernetes' label of slices."""

from __future__ import annotations

from typing import Final

DOMAIN: Final = "cluster.local"
"""What the full names of services end in, after `.svc.`."""

PLATFORM_NAMESPACE: Final = "ondol-system"
"""The platform's own namespace: what stands in it holds for all."""

AUTOMANAGED_LABEL: Final = "kube-aggregator.kubernetes.io/automanaged"
"""On an APIService of the API server's own: no other server answers for its version."""
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service whose endpoints it has."""


def service_host(name: str, namespace: str, domain: str = DOMAIN) -> str:
    """The full name of a Service."""
    return f"{name}.{namespace}.svc.{domain}"

"""Names that hold in the whole cluster: its domain, its own namespaces, Kubernetes' label of slices."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Key

DOMAIN: Final = "cluster.local"
"""What the full names of services end in, after `.svc.`."""

PLATFORM_NAMESPACE: Final = "ondol-system"
"""The platform's own namespace: what stands in it holds for all."""

AUTOMANAGED_LABEL: Final = "kube-aggregator.kubernetes.io/automanaged"
"""On an APIService of the API server's own: no other server answers for its version."""
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service whose endpoints it has."""


def service_of(host: str) -> Key | None:
    """The Service that a host names: `name.namespace`, `….svc`, `….svc.cluster.local`, with a port or not."""
    full = host.partition(":")[0].lower().rstrip(".")
    name, _, namespace = full.removesuffix(f".{DOMAIN}").removesuffix(".svc").partition(".")
    return Key(namespace, name) if name and namespace and "." not in namespace else None


def service_host(name: str, namespace: str, domain: str = DOMAIN) -> str:
    """The full name of a Service."""
    return f"{name}.{namespace}.svc.{domain}"

"""What Serving promises other features: its kinds, the labels of its objects and pods, their port."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Resource

GROUP: Final = "serving.knative.dev"
SERVICE: Final = Resource(GROUP, "v1", "services", "Service")
CONFIGURATION: Final = Resource(GROUP, "v1", "configurations", "Configuration")
REVISION: Final = Resource(GROUP, "v1", "revisions", "Revision")
ROUTE: Final = Resource(GROUP, "v1", "routes", "Route")
DOMAIN_MAPPING: Final = Resource(GROUP, "v1beta1", "domainmappings", "DomainMapping")
DOMAIN_CLAIM: Final = Resource(
    "networking.internal.knative.dev",
    "v1alpha1",
    "clusterdomainclaims",
    "ClusterDomainClaim",
    namespaced=False,
)
POD_AUTOSCALER: Final = Resource(
    "autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler"
)

SERVICE_LABEL: Final = f"{GROUP}/service"
"""On what a Service of Serving leads to, its pods among them: the Service's name."""
CONFIGURATION_LABEL: Final = f"{GROUP}/configuration"
REVISION_LABEL: Final = f"{GROUP}/revision"
"""On what a Revision has, its pods and EndpointSlice among them: the Revision's name."""
ROUTE_LABEL: Final = f"{GROUP}/route"

HTTP_PORT: Final = 80
"""The port of a Revision's Service."""

"""The resources that this project's own clients and controllers address, as constants."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Resource

NAMESPACE: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODE: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
POD: Final = Resource("", "v1", "pods", "Pod")
SERVICE: Final = Resource("", "v1", "services", "Service")
CONFIG_MAP: Final = Resource("", "v1", "configmaps", "ConfigMap")
SECRET: Final = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNT: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENT: Final = Resource("", "v1", "events", "Event")
ENDPOINTS: Final = Resource("", "v1", "endpoints", "Endpoints")
ENDPOINT_SLICE: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASE: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
DEPLOYMENT: Final = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SET: Final = Resource("apps", "v1", "replicasets", "ReplicaSet")
ROLE: Final = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDING: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
CUSTOM_RESOURCE_DEFINITION: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

VIRTUAL_SERVICE: Final = Resource("networking.istio.io", "v1", "virtualservices", "VirtualService")
DESTINATION_RULE: Final = Resource("networking.istio.io", "v1", "destinationrules", "DestinationRule")
GATEWAY: Final = Resource("networking.istio.io", "v1", "gateways", "Gateway")

KNATIVE_SERVICE: Final = Resource("serving.knative.dev", "v1", "services", "Service")
KNATIVE_CONFIGURATION: Final = Resource("serving.knative.dev", "v1", "configurations", "Configuration")
KNATIVE_REVISION: Final = Resource("serving.knative.dev", "v1", "revisions", "Revision")
KNATIVE_ROUTE: Final = Resource("serving.knative.dev", "v1", "routes", "Route")
POD_AUTOSCALER: Final = Resource(
    "autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler"
)

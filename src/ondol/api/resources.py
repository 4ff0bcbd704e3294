"""Where Kubernetes' own kinds are served, as constants for clients and controllers.

Those of the mesh and of Serving stand in `ondol.contracts`.
"""

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
REPLICATION_CONTROLLER: Final = Resource("", "v1", "replicationcontrollers", "ReplicationController")
REPLICA_SET: Final = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SET: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMON_SET: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
JOB: Final = Resource("batch", "v1", "jobs", "Job")
CRON_JOB: Final = Resource("batch", "v1", "cronjobs", "CronJob")
HORIZONTAL_POD_AUTOSCALER: Final = Resource(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
)
POD_DISRUPTION_BUDGET: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LIMIT_RANGE: Final = Resource("", "v1", "limitranges", "LimitRange")
RESOURCE_QUOTA: Final = Resource("", "v1", "resourcequotas", "ResourceQuota")
PERSISTENT_VOLUME: Final = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
PERSISTENT_VOLUME_CLAIM: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
MUTATING_WEBHOOK_CONFIGURATION: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_WEBHOOK_CONFIGURATION: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_ADMISSION_POLICY: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
VALIDATING_ADMISSION_POLICY_BINDING: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
MUTATING_ADMISSION_POLICY: Final = Resource(
    "admissionregistration.k8s.io",
    "v1beta1",
    "mutatingadmissionpolicies",
    "MutatingAdmissionPolicy",
    namespaced=False,
)
MUTATING_ADMISSION_POLICY_BINDING: Final = Resource(
    "admissionregistration.k8s.io",
    "v1beta1",
    "mutatingadmissionpolicybindings",
    "MutatingAdmissionPolicyBinding",
    namespaced=False,
)
ROLE: Final = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDING: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
PRIORITY_CLASS: Final = Resource(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False
)
CUSTOM_RESOURCE_DEFINITION: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
STORAGE_CLASS: Final = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
NETWORK_POLICY: Final = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
INGRESS_CLASS: Final = Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False)
SERVICE_CIDR: Final = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False)
RUNTIME_CLASS: Final = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
API_SERVICE: Final = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
FLOW_SCHEMA: Final = Resource(
    "flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False
)
PRIORITY_LEVEL: Final = Resource(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "prioritylevelconfigurations",
    "PriorityLevelConfiguration",
    namespaced=False,
)
CERTIFICATE_SIGNING_REQUEST: Final = Resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
)

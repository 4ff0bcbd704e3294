"""What `kubectl explain` says of the built-in kinds: sentences of our own, by type and field.

Kubernetes' table of fields is a table of facts; its prose is not, and is not copied
(docs/decisions/0012). Fields of everyday use are described here, in a sentence each; a field that is
not has its type, its default and its choices to speak for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ondol.api import facts

_CORE: Final = "io.k8s.api.core.v1."
_APPS: Final = "io.k8s.api.apps.v1."
_RBAC: Final = "io.k8s.api.rbac.v1."
_DISCOVERY: Final = "io.k8s.api.discovery.v1."
_ADMISSION: Final = "io.k8s.api.admissionregistration."
_BATCH: Final = "io.k8s.api.batch.v1."
_NETWORKING: Final = "io.k8s.api.networking.v1."
_RESOURCE: Final = "io.k8s.api.resource.v1."
_STORAGE: Final = "io.k8s.api.storage.v1."
_CRDS: Final = facts.JSON_SCHEMA_PROPS.rpartition(".")[0] + "."

API_VERSION: Final = "APIVersion defines the group and version this object is written in, such as apps/v1."
KIND: Final = "What kind of object this is, in CamelCase. It cannot be changed."
METADATA: Final = "Standard object's metadata: its name, labels and what else every object has."
LIST_METADATA: Final = "The version of the list, and how to go on with it if it is cut into pages."
_EVERYWHERE: Final = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": METADATA,
    "spec": "The desired state.",
    "status": "What was last seen of it. Written by the system.",
}

TYPES: Final[Mapping[str, str]] = {
    _CORE + "Binding": "Puts a pod on a node.",
    _CORE + "ConfigMap": "Configuration for pods to read, as keys and values.",
    _CORE + "Container": "One container of a pod: an image that is run, and how.",
    _CORE + "Endpoints": "The addresses behind a Service, in the older form; EndpointSlice is the newer one.",
    _CORE + "Event": "Something that happened to an object, told for people.",
    _CORE + "LimitRange": "Bounds and defaults for what the pods of a namespace ask for.",
    _CORE + "Namespace": "A room for names: objects in different namespaces may be called the same.",
    _CORE + "Node": "A machine that runs pods.",
    _CORE + "Pod": "Containers that run together on one node and share its address and volumes.",
    _CORE + "PodSpec": "How the containers of a pod are run.",
    _CORE + "PodStatus": "What the node says of a pod.",
    _CORE + "PodTemplateSpec": "What pods are made like.",
    _CORE + "Probe": "How to find out whether a container is well.",
    _CORE + "ResourceRequirements": "How much a container needs, and how much it may use.",
    _CORE + "Secret": "Data for pods that not everybody may read, such as passwords and keys.",
    _CORE + "SecurityContext": "What a container may do on its node.",
    _CORE + "Service": "One name and address for a set of pods.",
    _CORE + "ServiceAccount": "Who a pod is when it asks the API.",
    _CORE + "ServiceSpec": "Which pods a Service leads to, and how.",
    _CORE + "Volume": "A folder that containers of a pod can mount, and where its content comes from.",
    _APPS + "Deployment": "Keeps a number of equal pods running, and replaces them step by step.",
    _APPS + "DeploymentSpec": "Which pods are wanted, how many, and how they are replaced.",
    _APPS + "ReplicaSet": "Keeps a number of equal pods running. Deployments make these.",
    _APPS + "ReplicaSetSpec": "Which pods are wanted, and how many.",
    _RBAC + "ClusterRole": "Permissions that can be granted in any namespace, or in all of them.",
    _RBAC + "ClusterRoleBinding": "Grants a ClusterRole to users, groups or accounts, everywhere.",
    _RBAC + "PolicyRule": "Some verbs on some resources or URLs.",
    _RBAC + "Role": "Permissions that can be granted in its namespace.",
    _RBAC + "RoleBinding": "Grants a role to users, groups or accounts, in its namespace.",
    _DISCOVERY + "EndpointSlice": "Some of the endpoints behind a Service, all of the same ports.",
    "io.k8s.api.coordination.v1.Lease": "A claim that is renewed in time, as for electing a leader.",
    "io.k8s.api.events.v1.Event": "Something that happened to an object, told for people.",
    _CORE
    + "ComponentStatus": "Whether a part of the control plane is well. Deprecated: ask its own health URL.",
    _CORE + "LimitRange": "Bounds and defaults for what the pods of a namespace ask for.",
    _CORE + "PersistentVolume": "A piece of storage of the cluster, whoever uses it.",
    _CORE + "PersistentVolumeClaim": "A user's request for storage, which is bound to a PersistentVolume.",
    _CORE + "PodTemplate": "A template for pods, kept as an object of its own.",
    _CORE + "ReplicationController": "Keeps a number of equal pods running. ReplicaSets are the newer form.",
    _CORE + "ResourceQuota": "How much all objects of a namespace together may use.",
    _APPS + "ControllerRevision": "One state of a workload's template, kept so that it can be gone back to.",
    _APPS + "DaemonSet": "Runs one pod on every node that it selects.",
    _APPS + "StatefulSet": "Keeps pods running that have names, storage and an order of their own.",
    _BATCH + "CronJob": "Creates Jobs by a schedule.",
    _BATCH + "Job": "Runs pods until a number of them have succeeded.",
    "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler": "Sets the replicas of a workload by its use of CPU.",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler": "Sets the replicas of a workload by metrics.",
    "io.k8s.api.policy.v1.PodDisruptionBudget": "How many of the selected pods may be evicted at a time.",
    "io.k8s.api.scheduling.v1.PriorityClass": "A name for how important pods are to the scheduler.",
    "io.k8s.api.node.v1.RuntimeClass": "A name for the way in which the containers of a pod are run.",
    "io.k8s.api.certificates.v1.CertificateSigningRequest": "A request for a certificate, to be approved.",
    "io.k8s.api.flowcontrol.v1.FlowSchema": "Sorts requests into flows, each of a priority level.",
    "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration": "How many requests of a level run at once.",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService": "Who serves a version of a group.",
    _ADMISSION
    + "v1.MutatingWebhookConfiguration": "Webhooks that may change objects before they are stored.",
    _ADMISSION + "v1.ValidatingAdmissionPolicy": "CEL expressions that objects must satisfy to be stored.",
    _ADMISSION + "v1.ValidatingAdmissionPolicyBinding": "Where a ValidatingAdmissionPolicy is in force.",
    _ADMISSION
    + "v1.ValidatingWebhookConfiguration": "Webhooks that may refuse objects before they are stored.",
    **{
        f"{_ADMISSION}{version}.MutatingAdmissionPolicy{suffix}": sentence
        for version in ("v1", "v1beta1")
        for suffix, sentence in (
            ("", "CEL expressions that change objects before they are stored."),
            ("Binding", "Where a MutatingAdmissionPolicy is in force."),
        )
    },
    _NETWORKING + "IPAddress": "One address that is given out, and to what.",
    _NETWORKING + "Ingress": "Routes HTTP from outside to Services, by host and path.",
    _NETWORKING + "IngressClass": "A name for the controller that serves Ingresses.",
    _NETWORKING + "NetworkPolicy": "Which connections the selected pods may have.",
    _NETWORKING + "ServiceCIDR": "A range of addresses for Services.",
    _RESOURCE + "DeviceClass": "A name for devices that are chosen and set up in one way.",
    _RESOURCE + "ResourceClaim": "A request for devices.",
    _RESOURCE + "ResourceClaimTemplate": "What ResourceClaims of pods are made like.",
    _RESOURCE + "ResourceSlice": "Devices that a driver offers on a node.",
    _STORAGE + "CSIDriver": "How a driver of the Container Storage Interface is used.",
    _STORAGE + "CSINode": "The drivers of the Container Storage Interface that run on a node.",
    _STORAGE + "CSIStorageCapacity": "How much storage of a class is left in a part of the cluster.",
    _STORAGE + "StorageClass": "A name for storage of one sort, and who provisions it.",
    _STORAGE + "VolumeAttachment": "That a volume is, or is to be, attached to a node.",
    _STORAGE + "VolumeAttributesClass": "A name for attributes of volumes that may be changed later.",
    _CRDS + "CustomResourceDefinition": "Adds a kind of your own to the API.",
    facts.META + "ObjectMeta": "What every object has, whatever its kind.",
    facts.META + "LabelSelector": "Picks objects by their labels; all conditions must hold.",
    facts.META + "OwnerReference": "An object of the same namespace that this one belongs to.",
    facts.META + "Condition": "One thing that is or is not so of an object.",
}

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    facts.META + "ObjectMeta": {
        "annotations": "Notes for tools and people, as keys and values. They cannot be selected by.",
        "creationTimestamp": "CreationTimestamp is a timestamp: when the object was created.",
        "deletionGracePeriodSeconds": "How long the object may take to end once it is deleted.",
        "deletionTimestamp": "When the object, whose deletion was asked for, is expected to be gone.",
        "finalizers": "Who has still to clean up before the object can go.",
        "generateName": "What a name that the server makes up begins with.",
        "generation": "Counts the changes of the desired state.",
        "labels": "Keys and values to select objects by.",
        "managedFields": "Who wrote which fields, kept by the server.",
        "name": "The object's name, unique among its kind in its namespace. It cannot be changed.",
        "namespace": "The namespace the object is in. It cannot be changed.",
        "ownerReferences": "Objects without which this one is collected as garbage.",
        "resourceVersion": "Names the object's present state; another after every write.",
        "uid": "Tells this object from every other, also from later ones of its name.",
    },
    facts.META + "OwnerReference": {
        "blockOwnerDeletion": "Whether the owner waits for this object when it is deleted in the foreground.",
        "controller": "Whether this owner manages the object. Only one can.",
        "name": "The owner's name.",
        "uid": "The owner's uid.",
    },
    facts.META + "LabelSelector": {
        "matchExpressions": "Conditions on labels: In, NotIn, Exists, DoesNotExist.",
        "matchLabels": "Labels that must have exactly these values.",
    },
    facts.META + "Condition": {
        "lastTransitionTime": "When the status last changed.",
        "message": "What there is to say, for people.",
        "observedGeneration": "The generation of the object that was looked at.",
        "reason": "Why, in one word in CamelCase.",
        "status": "True, False or Unknown.",
        "type": "What is or is not so.",
    },
    _CORE + "PodSpec": {
        "activeDeadlineSeconds": "After so long the pod is ended and counts as failed.",
        "affinity": "Which nodes and which neighbours the pod wants or avoids.",
        "automountServiceAccountToken": "Whether the account's token is mounted in the containers.",
        "containers": "What the pod runs: at least one container.",
        "dnsConfig": "Name servers, search domains and options beside those of the policy.",
        "dnsPolicy": "Which name servers the pod asks.",
        "enableServiceLinks": "Whether Services of the namespace are told in environment variables.",
        "ephemeralContainers": "Containers added to the running pod, to look into it.",
        "hostAliases": "Lines to add to /etc/hosts.",
        "hostNetwork": "Whether the pod uses the node's network instead of one of its own.",
        "hostname": "The pod's host name, if it is not its own name.",
        "imagePullSecrets": "Secrets to sign in to registries with.",
        "initContainers": "Containers that are run one after another before the others start.",
        "nodeName": "The node the pod runs on. Set by the scheduler.",
        "nodeSelector": "Labels a node must have.",
        "priorityClassName": "How important the pod is, by the name of a class.",
        "readinessGates": "Conditions, beside the containers', without which the pod is not ready.",
        "restartPolicy": "Whether containers that end are started again.",
        "schedulerName": "Who finds a node for the pod.",
        "securityContext": "What holds for all containers, and for the pod's volumes.",
        "serviceAccount": "The older name of serviceAccountName.",
        "serviceAccountName": "Who the pod is when it asks the API.",
        "shareProcessNamespace": "Whether the containers see each other's processes.",
        "subdomain": "Part of the pod's full host name, and the name of its headless Service.",
        "terminationGracePeriodSeconds": "How long processes may take to end before they are killed.",
        "tolerations": "Taints of nodes that the pod can live with.",
        "topologySpreadConstraints": "How evenly equal pods are spread.",
        "volumes": "Folders that the containers can mount.",
    },
    _CORE + "Container": {
        "args": "What the command, or the image's entry point, is given.",
        "command": "What is run instead of the image's entry point.",
        "env": "Environment variables.",
        "envFrom": "ConfigMaps and Secrets all of whose keys become environment variables.",
        "image": "The image to run.",
        "imagePullPolicy": "When the image is fetched anew.",
        "lifecycle": "What to do right after the container starts and before it is stopped.",
        "livenessProbe": "A container that fails this is started again.",
        "name": "The container's name in the pod.",
        "ports": "Ports the container listens at.",
        "readinessProbe": "A container that fails this gets no traffic.",
        "resources": "How much the container needs, and how much it may use.",
        "restartPolicy": "Always, on an init container, makes it a sidecar that runs beside the others.",
        "securityContext": "What the container may do on its node.",
        "startupProbe": "Until this succeeds the other probes wait.",
        "stdin": "Whether the container's standard input is kept open.",
        "terminationMessagePath": "The file in which the container says why it ended.",
        "terminationMessagePolicy": "Whether the log's end will do where that file is empty.",
        "tty": "Whether the container gets a terminal.",
        "volumeMounts": "Where volumes of the pod appear in the container.",
        "workingDir": "The folder the command is run in.",
    },
    _CORE + "ContainerPort": {
        "containerPort": "The port, from 1 to 65535.",
        "hostPort": "The same at the node's own address.",
        "name": "A name by which Services and probes can refer to the port.",
        "protocol": "TCP, UDP or SCTP.",
    },
    _CORE + "EnvVar": {
        "name": "The variable's name.",
        "value": "Its value; $(NAME) stands for a variable defined before.",
        "valueFrom": "Where its value comes from instead.",
    },
    _CORE + "EnvVarSource": {
        "configMapKeyRef": "A key of a ConfigMap.",
        "fieldRef": "A field of the pod.",
        "resourceFieldRef": "A request or limit of the container.",
        "secretKeyRef": "A key of a Secret.",
    },
    _CORE + "Probe": {
        "exec": "Runs a command in the container; it must end with 0.",
        "failureThreshold": "So many failures in a row count.",
        "grpc": "Asks the gRPC health service at a port.",
        "httpGet": "Asks a URL; it must answer from 200 to 399.",
        "initialDelaySeconds": "How long to wait after the container's start.",
        "periodSeconds": "How often to probe.",
        "successThreshold": "So many successes in a row count.",
        "tcpSocket": "Connects to a port.",
        "timeoutSeconds": "How long one probe may take.",
    },
    _CORE + "ResourceRequirements": {
        "limits": "The most that may be used of each resource.",
        "requests": "What is needed of each resource; the scheduler reserves it.",
    },
    _CORE + "VolumeMount": {
        "mountPath": "Where the volume appears in the container.",
        "name": "Which volume of the pod.",
        "readOnly": "Whether the container may only read.",
        "subPath": "Which file or folder of the volume, if not all of it.",
    },
    _CORE + "Volume": {
        "configMap": "The keys of a ConfigMap, as files.",
        "downwardAPI": "Fields of the pod, as files.",
        "emptyDir": "A folder that is empty at first and goes with the pod.",
        "hostPath": "A file or folder of the node.",
        "name": "The volume's name in the pod.",
        "persistentVolumeClaim": "Storage that outlives the pod.",
        "projected": "Several sources in one folder.",
        "secret": "The keys of a Secret, as files.",
    },
    _CORE + "PodStatus": {
        "conditions": "What is or is not so: scheduled, ready, and so on.",
        "containerStatuses": "What each container does.",
        "hostIP": "The node's address.",
        "message": "Why the pod is as it is, for people.",
        "observedGeneration": "The generation of the pod that the node acted on last.",
        "phase": "Pending, Running, Succeeded, Failed or Unknown.",
        "podIP": "The pod's address.",
        "podIPs": "Its addresses, one of each family.",
        "qosClass": "Guaranteed, Burstable or BestEffort, by its requests and limits.",
        "reason": "The same in one word.",
        "startTime": "When the node took the pod up.",
    },
    _CORE + "ServiceSpec": {
        "clusterIP": "The Service's address, given by the server; None for one without (headless).",
        "externalName": "The name that the Service is an alias of, for type ExternalName.",
        "externalTrafficPolicy": "Whether traffic from outside may go on to another node.",
        "internalTrafficPolicy": "Whether traffic from pods may go on to another node.",
        "ports": "The ports of the Service, and where they lead.",
        "publishNotReadyAddresses": "Whether pods that are not ready get traffic too.",
        "selector": "The labels of the pods behind the Service; without it others fill its endpoints.",
        "sessionAffinity": "ClientIP keeps a client with the same pod.",
        "type": "How far the Service reaches: ClusterIP, NodePort, LoadBalancer; or ExternalName.",
    },
    _CORE + "ServicePort": {
        "appProtocol": "What is spoken at the port, such as http or kubernetes.io/h2c.",
        "name": "The port's name; needed where there are several.",
        "nodePort": "The port at every node, given by the server if it is not chosen.",
        "port": "The Service's port.",
        "protocol": "TCP, UDP or SCTP.",
        "targetPort": "The pod's port, by number or name.",
    },
    _CORE + "ConfigMap": {
        "binaryData": "Keys and values that are not text, in base64.",
        "data": "Keys and values that are text.",
        "immutable": "Whether the data can never be changed again.",
    },
    _CORE + "Secret": {
        "data": "Keys and values, in base64.",
        "immutable": "Whether the data can never be changed again.",
        "stringData": "Keys and values as plain text; for writing only, they become data.",
        "type": "What the Secret is for.",
    },
    _CORE + "NodeSpec": {
        "podCIDR": "The network of the node's pods.",
        "taints": "What keeps pods away that do not tolerate it.",
        "unschedulable": "Whether no further pods come to the node.",
    },
    _CORE + "ServiceAccount": {
        "automountServiceAccountToken": "Whether pods of the account get its token mounted.",
        "imagePullSecrets": "Secrets that pods of the account sign in to registries with.",
    },
    _CORE + "Toleration": {
        "effect": "Which effect of the taint; empty for all.",
        "key": "Which taint; empty for all.",
        "operator": "Equal compares the value, Exists does not.",
        "tolerationSeconds": "For how long a NoExecute taint is tolerated; for ever if it is not said.",
        "value": "The taint's value.",
    },
    _APPS + "DeploymentSpec": {
        "minReadySeconds": "How long a new pod must be ready to count as available.",
        "paused": "Whether changes of the template wait.",
        "progressDeadlineSeconds": "After so long without progress the Deployment is told to be stuck.",
        "replicas": "How many pods are wanted.",
        "revisionHistoryLimit": "How many old ReplicaSets are kept to go back to.",
        "selector": "The labels of the Deployment's pods. It cannot be changed.",
        "strategy": "How old pods are replaced by new ones.",
        "template": "What the pods are made like.",
    },
    _APPS + "DeploymentStrategy": {
        "rollingUpdate": "How many pods may be too many or too few meanwhile.",
        "type": "RollingUpdate goes step by step; Recreate ends all old pods first.",
    },
    _APPS + "RollingUpdateDeployment": {
        "maxSurge": "How many pods there may be beyond replicas, as a number or percentage.",
        "maxUnavailable": "How many pods may be unavailable, as a number or percentage.",
    },
    _APPS + "ReplicaSetSpec": {
        "minReadySeconds": "How long a new pod must be ready to count as available.",
        "replicas": "How many pods are wanted.",
        "selector": "The labels of the ReplicaSet's pods. It cannot be changed.",
        "template": "What the pods are made like.",
    },
    _RBAC + "PolicyRule": {
        "apiGroups": "The groups of the resources; the empty one is that of pods and Services, * is all.",
        "nonResourceURLs": "Paths that are no resources, such as /metrics.",
        "resourceNames": "Only the objects of these names.",
        "resources": "The resources, as pods or pods/log; * is all.",
        "verbs": "What may be done: get, list, watch, create, update, patch, delete, or * for all.",
    },
    _RBAC + "RoleBinding": {"roleRef": "What is granted. It cannot be changed.", "subjects": "To whom."},
    _RBAC + "ClusterRoleBinding": {
        "roleRef": "What is granted. It cannot be changed.",
        "subjects": "To whom.",
    },
    _RBAC + "Role": {"rules": "What is permitted."},
    _RBAC + "ClusterRole": {
        "aggregationRule": "Labels of ClusterRoles whose rules are gathered here.",
        "rules": "What is permitted.",
    },
    _DISCOVERY + "EndpointSlice": {
        "addressType": "IPv4, IPv6 or FQDN. It cannot be changed.",
        "endpoints": "Where the traffic goes.",
        "ports": "The ports that all of the endpoints serve.",
    },
    _CRDS + "CustomResourceDefinitionSpec": {
        "conversion": "How objects are turned from one version into another.",
        "group": "The API group of the kind.",
        "names": "What the kind is called, in paths and in documents.",
        "scope": "Namespaced, or Cluster for objects outside of namespaces.",
        "versions": "The versions of the kind. Exactly one of them is stored.",
    },
    _CRDS + "CustomResourceDefinitionVersion": {
        "additionalPrinterColumns": "What kubectl get shows beside the name.",
        "deprecated": "Whether requests for the version are answered with a warning.",
        "deprecationWarning": "What that warning says.",
        "name": "The version, such as v1.",
        "schema": "What objects of the version look like.",
        "selectableFields": "Fields that field selectors can name.",
        "served": "Whether the version can be asked for.",
        "storage": "Whether objects are stored in this version.",
        "subresources": "Whether the kind has a status and a scale.",
    },
}


def of_type(name: str) -> str:
    """What a type is; empty if nothing is written of it."""
    return TYPES.get(name, "")


def of_field(type_name: str, field: str) -> str:
    """What a field of a type is for; empty if nothing is written of it."""
    return FIELDS.get(type_name, {}).get(field) or _EVERYWHERE.get(field, "")

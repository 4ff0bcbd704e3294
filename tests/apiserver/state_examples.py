"""Objects of every kind, and what the metrics of their state say of them.

A line is the family's name without `kube_<noun>_`, the labels without those that say whose it is, and the
value; `T0` there is `T0_S`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api.objects import Object

T0: Final = "2026-01-01T00:00:00Z"
T0_S: Final = 1767225600


def named(kind: str, spec: Any = None, status: Any = None, **more: Any) -> Object:
    metadata = {
        "name": "x",
        "namespace": "ns",
        "uid": "u1",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": T0,
        **more.pop("metadata", {}),
    }
    return {"kind": kind, "metadata": metadata, "spec": spec or {}, "status": status or {}, **more}


OWNER: Final = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "name": "web-1",
    "uid": "o",
    "controller": True,
}
TRUE: Final = {"status": "True", "lastTransitionTime": T0}
RUNNING: Final = named(
    "Pod",
    {
        "nodeName": "n1",
        "restartPolicy": "Always",
        "hostNetwork": True,
        "priorityClassName": "high",
        "nodeSelector": {"disk.example.org/fastKind": "ssd"},
        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}] * 2,
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}}],
        "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "main",
                "image": "a:1",
                "resources": {
                    "requests": {"cpu": "250m", "memory": "64Mi", "example.org/gpu": "2"},
                    "limits": {"ephemeral-storage": "1Gi"},
                },
            }
        ],
    },
    {
        "phase": "Running",
        "qosClass": "Burstable",
        "hostIP": "192.0.2.1",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "startTime": T0,
        "conditions": [{"type": "Ready", **TRUE}, {"type": "PodScheduled", **TRUE}],
        "containerStatuses": [
            {
                "name": "main",
                "ready": True,
                "restartCount": 4,
                "image": "docker.io/a:1",
                "imageID": "a@sha256:1",
                "containerID": "crun://1",
                "state": {"running": {"startedAt": T0}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": T0}},
            }
        ],
        "initContainerStatuses": [
            {
                "name": "i",
                "ready": False,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "image": "i:1",
            }
        ],
    },
    metadata={"ownerReferences": [OWNER], "labels": {"app": "web"}, "annotations": {"a/b": 'say "hi"\\\n'}},
)
EXAMPLES: Final[Mapping[str, tuple[str, Object, tuple[str, ...]]]] = {
    "a pod that runs": (
        "pods",
        RUNNING,
        (
            (
                'info{host_ip="192.0.2.1",pod_ip="10.0.0.1",node="n1",created_by_kind="ReplicaSet",'
                'created_by_name="web-1",priority_class="high",host_network="true"} 1'
            ),
            'ips{ip="10.0.0.1",ip_family="4"} 1',
            "created T0",
            "start_time T0",
            'owner{owner_kind="ReplicaSet",owner_name="web-1",owner_is_controller="true"} 1',
            'nodeselectors{nodeselector_disk_example_org_fast_kind="ssd"} 1',
            'status_phase{phase="Running"} 1',
            'status_phase{phase="Pending"} 0',
            'status_qos_class{qos_class="Burstable"} 1',
            'status_ready{condition="true"} 1',
            'status_ready{condition="false"} 0',
            'status_scheduled{condition="unknown"} 0',
            "status_ready_time T0",
            'tolerations{key="k",operator="Exists",toleration_seconds="30"} 1',
            (
                'spec_volumes_persistentvolumeclaims_readonly{volume="v",persistentvolumeclaim="c",'
                'ephemeral="false"} 1'
            ),
            (
                'container_info{container="main",image_spec="a:1",image="docker.io/a:1",'
                'image_id="a@sha256:1",container_id="crun://1"} 1'
            ),
            'container_resource_requests{container="main",node="n1",resource="cpu",unit="core"} 0.25',
            'container_resource_requests{container="main",node="n1",resource="memory",unit="byte"} 67108864',
            (
                'container_resource_requests{container="main",node="n1",resource="example_org_gpu",'
                'unit="integer"} 2'
            ),
            (
                'container_resource_limits{container="main",node="n1",resource="ephemeral_storage",'
                'unit="byte"} 1073741824'
            ),
            'container_state_started{container="main"} T0',
            'container_status_running{container="main"} 1',
            'container_status_waiting{container="main"} 0',
            'container_status_restarts_total{container="main"} 4',
            'container_status_last_terminated_reason{container="main",reason="OOMKilled"} 1',
            'container_status_last_terminated_exitcode{container="main"} 137',
            'init_container_status_waiting_reason{container="i",reason="CrashLoopBackOff"} 1',
            'init_container_info{container="i",image_spec="i:1",image="i:1",restart_policy="Always"} 1',
        ),
    ),
    "a pod that waits": (
        "pods",
        named(
            "Pod",
            {"containers": []},
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", **TRUE, "status": "False"}]},
        ),
        (
            "status_unschedulable 1",
            "status_unscheduled_time T0",
            "owner 1",
        ),
    ),
    "an evicted pod": (
        "pods",
        named("Pod", {"containers": []}, {"phase": "Failed", "reason": "Evicted"}),
        ('status_reason{reason="Evicted"} 1',),
    ),
    "deployment": (
        "deployments",
        named(
            "Deployment",
            {"replicas": 7, "strategy": {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}},
            {
                "replicas": 6,
                "observedGeneration": 2,
                "conditions": [{"type": "Available", "status": "True", "reason": "Own"}],
            },
        ),
        (
            "spec_replicas 7",
            "status_replicas 6",
            "status_replicas_available 0",
            "metadata_generation 3",
            "status_observed_generation 2",
            "spec_paused 0",
            "spec_strategy_rollingupdate_max_unavailable 1",
            "spec_strategy_rollingupdate_max_surge 2",
            'status_condition{reason="unknown",condition="Available",status="true"} 1',
        ),
    ),
    "replica set": (
        "replicasets",
        named("ReplicaSet", {"replicas": 2}, {"readyReplicas": 1}),
        (
            "spec_replicas 2",
            "status_ready_replicas 1",
            "owner 1",
        ),
    ),
    "stateful set": (
        "statefulsets",
        named(
            "StatefulSet",
            {"replicas": 2, "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}},
            {"currentRevision": "r1", "updateRevision": "r2"},
        ),
        (
            "replicas 2",
            'status_update_revision{revision="r2"} 1',
            'persistentvolumeclaim_retention_policy{when_deleted="Retain"} 1',
        ),
    ),
    "daemon set": (
        "daemonsets",
        named("DaemonSet", {}, {"desiredNumberScheduled": 1, "numberMisscheduled": 2}),
        (
            "status_desired_number_scheduled 1",
            "status_number_misscheduled 2",
        ),
    ),
    "a job that failed": (
        "jobs",
        named(
            "Job",
            {"completions": 1},
            {
                "failed": 3,
                "startTime": T0,
                "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}],
            },
        ),
        (
            "info 1",
            "spec_completions 1",
            'status_failed{reason="BackoffLimitExceeded"} 1',
            'failed{condition="true"} 1',
            "status_start_time T0",
        ),
    ),
    "cron job": (
        "cronjobs",
        named("CronJob", {"schedule": "0 6 * * *", "concurrencyPolicy": "Allow"}, {"active": [{}]}),
        (
            'info{schedule="0 6 * * *",concurrency_policy="Allow",timezone="local"} 1',
            "next_schedule_time 1767247200",
            "status_active 1",
            "spec_suspend 0",
        ),
    ),
    "a cron job of nowhere": (
        "cronjobs",
        named("CronJob", {"schedule": "0 6 * * *", "timeZone": "Moon/Crater"}),
        ("schedule_invalid 1",),
    ),
    "autoscaler": (
        "horizontalpodautoscalers",
        named(
            "HorizontalPodAutoscaler",
            {
                "maxReplicas": 9,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
                    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"averageValue": "500m"}}},
                ],
            },
            {"currentReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        ),
        (
            (
                'info{scaletargetref_api_version="apps/v1",scaletargetref_kind="Deployment",'
                'scaletargetref_name="web"} 1'
            ),
            "spec_min_replicas 1",
            'spec_target_metric{metric_name="cpu",metric_target_type="utilization"} 80',
            'spec_target_metric{metric_name="rps",metric_target_type="average"} 0.5',
            'status_condition{condition="AbleToScale",status="true"} 1',
        ),
    ),
    "node": (
        "nodes",
        named(
            "Node",
            {
                "taints": [{"key": "k", "effect": "NoSchedule"}],
                "podCIDRs": ["10.0.0.0/16"],
                "unschedulable": True,
            },
            {
                "capacity": {"cpu": "2", "memory": "1Ki", "pods": "110", "hugepages-2Mi": "0"},
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "nodeInfo": {"kernelVersion": "6.1", "kubeletVersion": "v1.34.0"},
            },
            metadata={"labels": {"node-role.kubernetes.io/control-plane": ""}},
        ),
        (
            (
                'info{kernel_version="6.1",kubelet_version="v1.34.0",kubeproxy_version="deprecated",'
                'internal_ip="192.0.2.1"} 1'
            ),
            'role{role="control-plane"} 1',
            "spec_unschedulable 1",
            'spec_taint{key="k",effect="NoSchedule"} 1',
            'status_capacity{resource="cpu",unit="core"} 2',
            'status_capacity{resource="memory",unit="byte"} 1024',
            'status_capacity{resource="pods",unit="integer"} 110',
            'status_capacity{resource="hugepages_2Mi",unit="byte"} 0',
            'status_condition{condition="Ready",status="unknown"} 1',
        ),
    ),
    "namespace": (
        "namespaces",
        named("Namespace", {}, {"phase": "Terminating"}),
        ('status_phase{phase="Terminating"} 1',),
    ),
    "service": (
        "services",
        named(
            "Service",
            {"clusterIP": "10.96.0.9", "type": "LoadBalancer", "externalIPs": ["192.0.2.8", "192.0.2.8"]},
            {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
        ),
        (
            'info{cluster_ip="10.96.0.9"} 1',
            'spec_type{type="LoadBalancer"} 1',
            'spec_external_ip{external_ip="192.0.2.8"} 1',
            'status_load_balancer_ingress{ip="192.0.2.9"} 1',
        ),
    ),
    "endpoints": (
        "endpoints",
        named(
            "Endpoints",
            subsets=[{"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80, "protocol": "TCP"}]}],
        ),
        ('address{port_protocol="TCP",port_number="80",ip="10.0.0.2",ready="false"} 1',),
    ),
    "endpoint slice": (
        "endpointslices",
        named(
            "EndpointSlice",
            addressType="IPv4",
            ports=[{"name": "http", "port": 80, "protocol": "TCP"}],
            endpoints=[{"addresses": ["10.0.0.2"], "conditions": {"ready": True}, "nodeName": "n1"}],
        ),
        (
            'info{addresstype="IPv4"} 1',
            'endpoints{address="10.0.0.2",ready="true",endpoint_nodename="n1"} 1',
            'ports{port_name="http",port_protocol="TCP",port_number="80"} 1',
        ),
    ),
    "ingress": (
        "ingresses",
        named(
            "Ingress",
            {
                "rules": [
                    {
                        "host": "h",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "s", "port": {"number": 80}}},
                                }
                            ]
                        },
                    }
                ],
                "tls": [{"hosts": ["h"], "secretName": "t"}],
            },
        ),
        (
            'info{ingressclass="_default"} 1',
            'path{host="h",path="/",path_type="Prefix",service_name="s",service_port="80"} 1',
            'tls{tls_host="h",secret="t"} 1',
        ),
    ),
    "quota": (
        "resourcequotas",
        named("ResourceQuota", {}, {"hard": {"requests.cpu": "2"}, "used": {"requests.cpu": "500m"}}),
        (
            '{resource="requests.cpu",type="hard"} 2',
            '{resource="requests.cpu",type="used"} 0.5',
        ),
    ),
    "limits": (
        "limitranges",
        named("LimitRange", {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m"}}]}),
        ('{resource="cpu",type="Container",constraint="defaultRequest"} 0.1',),
    ),
    "disruption budget": (
        "poddisruptionbudgets",
        named("PodDisruptionBudget", {}, {"disruptionsAllowed": 1, "desiredHealthy": 2}),
        ("status_pod_disruptions_allowed 1",),
    ),
    "volume": (
        "persistentvolumes",
        named(
            "PersistentVolume",
            {
                "capacity": {"storage": "1Gi"},
                "storageClassName": "local",
                "hostPath": {"path": "/d"},
                "claimRef": {"name": "c", "namespace": "ns"},
                "persistentVolumeReclaimPolicy": "Delete",
            },
            {"phase": "Bound"},
        ),
        (
            "capacity_bytes 1073741824",
            'status_phase{phase="Bound"} 1',
            'claim_ref{name="c",claim_namespace="ns"} 1',
            'info{storageclass="local",host_path="/d",reclaim_policy="Delete"} 1',
        ),
    ),
    "claim": (
        "persistentvolumeclaims",
        named(
            "PersistentVolumeClaim",
            {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": "v",
            },
            {"phase": "Bound"},
        ),
        (
            'info{volumename="v"} 1',
            'access_mode{access_mode="ReadWriteOnce"} 1',
            "resource_requests_storage_bytes 1073741824",
            'status_phase{phase="Lost"} 0',
        ),
    ),
    "lease": (
        "leases",
        named("Lease", {"holderIdentity": "me", "renewTime": "2026-01-01T00:00:00.500000Z"}),
        (
            'owner{lease_holder="me"} 1',
            "renew_time T0",
        ),
    ),
    "signing request": (
        "certificatesigningrequests",
        named(
            "CertificateSigningRequest",
            {"signerName": "s"},
            {"certificate": "YWJj", "conditions": [{"type": "Approved", "status": "True"}]},
        ),
        (
            'condition{condition="approved"} 1',
            'condition{condition="denied"} 0',
            "cert_length 3",
        ),
    ),
    "webhooks": (
        "validatingwebhookconfigurations",
        named(
            "ValidatingWebhookConfiguration",
            webhooks=[{"name": "w", "clientConfig": {"service": {"name": "s", "namespace": "n"}}}],
        ),
        (
            "info 1",
            'webhook_clientconfig_service{webhook_name="w",service_name="s",service_namespace="n"} 1',
            "metadata_resource_version 7",
        ),
    ),
    "secret": (
        "secrets",
        named("Secret", type="Opaque", data={"password": "c2VjcmV0"}),
        (
            "info 1",
            'type{type="Opaque"} 1',
            "metadata_resource_version 7",
        ),
    ),
    "storage class": (
        "storageclasses",
        named("StorageClass", provisioner="p", reclaimPolicy="Retain", volumeBindingMode="Immediate"),
        ('info{provisioner="p",reclaim_policy="Retain",volume_binding_mode="Immediate"} 1',),
    ),
    "network policy": (
        "networkpolicies",
        named("NetworkPolicy", {"ingress": [{}, {}]}),
        (
            "spec_ingress_rules 2",
            "spec_egress_rules 0",
        ),
    ),
}

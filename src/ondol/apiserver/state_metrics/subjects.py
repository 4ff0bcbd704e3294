"""The kinds that are told of: those of kube-state-metrics' default that are served here."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.state_metrics import cluster, pods, services, storage, workloads
from ondol.apiserver.state_metrics.families import Subject

ALL: Final[tuple[Subject, ...]] = (
    cluster.CERTIFICATE_SIGNING_REQUEST,
    storage.CONFIG_MAP,
    workloads.CRON_JOB,
    workloads.DAEMON_SET,
    workloads.DEPLOYMENT,
    services.ENDPOINTS,
    services.ENDPOINT_SLICE,
    workloads.HORIZONTAL_POD_AUTOSCALER,
    services.INGRESS,
    services.INGRESS_CLASS,
    workloads.JOB,
    cluster.LEASE,
    cluster.LIMIT_RANGE,
    cluster.MUTATING_WEBHOOKS,
    cluster.NAMESPACE,
    services.NETWORK_POLICY,
    cluster.NODE,
    storage.PERSISTENT_VOLUME,
    storage.PERSISTENT_VOLUME_CLAIM,
    pods.POD,
    cluster.POD_DISRUPTION_BUDGET,
    workloads.REPLICA_SET,
    workloads.REPLICATION_CONTROLLER,
    cluster.RESOURCE_QUOTA,
    storage.SECRET,
    services.SERVICE,
    workloads.STATEFUL_SET,
    storage.STORAGE_CLASS,
    cluster.VALIDATING_WEBHOOKS,
)
"""In the order of the page."""

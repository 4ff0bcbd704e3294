"""How compose puts the controllers on a manager."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ondol.base.host_ports import HostPort
from ondol.controllers import (
    aggregation,
    autoscaling,
    disruption,
    endpoints,
    garbage,
    mirroring,
    namespace,
    node,
    podgc,
    quota,
    scheduler,
    serviceaccount,
    storage,
)
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.workloads import cronjob, daemonset, deployment, job, replicaset, statefulset
from ondol.sdk import Manager


@dataclass(frozen=True, slots=True)
class ControllersConfig:
    """What the controllers cannot learn from the API."""

    root_ca: str = ""
    """PEM of the authority that signs the API server, for `kube-root-ca.crt`; empty makes none."""
    ports_in_use: Callable[[], Collection[HostPort]] = frozenset
    """Where something listens on the node's machine, pods aside: no pod is given such a `hostPort`."""


def add_to(manager: Manager, config: ControllersConfig) -> None:
    """Add every controller of this package; before the manager runs."""
    catalogue = Catalogue(manager)
    garbage.add_to(manager, catalogue)
    namespace.add_to(manager, catalogue)
    serviceaccount.add_to(manager, config.root_ca)
    aggregation.add_to(manager)
    deployment.add_to(manager)
    replicaset.add_to(manager)
    statefulset.add_to(manager)
    daemonset.add_to(manager)
    job.add_to(manager)
    cronjob.add_to(manager)
    autoscaling.add_to(manager)
    scheduler.add_to(manager, config.ports_in_use)
    endpoints.add_to(manager)
    mirroring.add_to(manager)
    node.add_to(manager)
    podgc.add_to(manager)
    quota.add_to(manager, catalogue)
    disruption.add_to(manager)
    storage.add_to(manager)

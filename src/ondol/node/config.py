"""What the node agent is told when it starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.api import eviction_thresholds
from ondol.base.backoff import Backoff
from ondol.base.host_ports import HostPort
from ondol.contracts import cluster
from ondol.node.pressure.image_collection import Policy

_RESTART_FIRST_S: Final = 10.0
_RESTART_MAX_S: Final = 300.0
# The kubelet's; one that is built or imported here meanwhile is heard of and waited for no longer.
_IMAGE_BACKOFF: Final = Backoff(initial_s=10.0, maximum_s=300.0)


def restart_backoff(maximum_s: float = _RESTART_MAX_S) -> Backoff:
    """The kubelet's: 10 s, doubled up to `maximum_s`, which is also the first wait if it is shorter."""
    return Backoff(initial_s=min(_RESTART_FIRST_S, maximum_s), maximum_s=maximum_s)


POD_GROUP: Final = "pod"
"""What the name of a pod's control group begins with; its uid follows."""
_VOLUMES: Final = "volumes"
_ETC: Final = "etc"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One instance on one host."""

    instance: str
    """Six hexadecimal digits: part of every name this node makes on the host."""
    name: str
    data_dir: Path
    host_ip: str
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = cluster.DOMAIN
    run_root: Path = Path("/run/ondol")
    mesh_enabled: bool = True
    mesh_patience_s: float = 10.0
    drain_s: float = 2.0
    """How long a pod in the mesh that was an endpoint answers on before SIGTERM; 0 is not at all."""
    api_token: str = ""
    """Bearer token that callers of the node's HTTP interface show; empty refuses all but health checks."""
    load_balancer_address: str = ""
    """Where Services of type LoadBalancer are reached on this machine; empty is the node's own address."""
    reserved_ports: frozenset[HostPort] = frozenset()
    """The platform's own ports on this machine: no Service or pod is given one."""
    runtime: str = ""
    """`crun` or `runc`; empty takes the first that works."""
    dns_port: int = 53
    upstream_dns: tuple[str, ...] = ()
    """Name servers for names outside the cluster, `address` or `address:port`; empty takes the host's."""
    stub_domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name servers for a domain and all below it."""
    mtu: int = 1500
    max_pods: int = 110
    pod_pids_limit: int = 4096
    """Processes and threads a pod may have; 0 is no limit."""
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Names and patterns (`net.core.*`) pods may set beyond the safe ones."""
    labels: dict[str, str] = field(default_factory=dict)
    eviction_hard: str = eviction_thresholds.DEFAULT
    """Below what the machine is short of something, as `api.eviction_thresholds` reads it; empty is never."""
    eviction_transition_s: float = 300.0
    """How long a condition of the Node stays true after its shortage."""
    image_collection: Policy = field(default_factory=Policy)
    restart_backoff: Backoff = field(default_factory=restart_backoff)
    image_backoff: Backoff = _IMAGE_BACKOFF
    log_bytes_max: int = 10 * 1024 * 1024
    log_files_max: int = 5
    housekeeping_interval_s: float = 10.0
    lease_interval_s: float = 10.0

    @property
    def run_dir(self) -> Path:
        return self.run_root / self.instance

    @property
    def balanced_at(self) -> str:
        return self.load_balancer_address or self.host_ip

    @property
    def api_socket(self) -> Path:
        """Where this node's own HTTP interface listens, for the user who runs it alone."""
        return self.run_dir / "node.sock"

    @property
    def bridge(self) -> str:
        return f"ondol{self.instance}"

    @property
    def cgroup(self) -> str:
        return f"/ondol-{self.instance}"

    @property
    def pods(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.pod_cidr)

    @property
    def services(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.service_cidr)

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The bridge's address: the pods' router and name server."""
        return self.pods[1]

    @property
    def seccomp_dir(self) -> Path:
        """Where profiles of type `Localhost` are."""
        return self.data_dir / "seccomp"

    @property
    def local_volumes_dir(self) -> Path:
        """The volumes that are made for claims; they outlive pods."""
        return self.data_dir / _VOLUMES

    def pod_dir(self, uid: str) -> Path:
        return self.data_dir / "pods" / uid

    def pod_cgroup(self, uid: str) -> str:
        return f"{self.cgroup}/{POD_GROUP}{uid}"

    def volume_dir(self, uid: str, volume: str) -> Path:
        """What is kept of a volume in the pod's own folder."""
        return self.pod_dir(uid) / _VOLUMES / volume

    def etc_dir(self, uid: str) -> Path:
        """The files that the node lays into `/etc` of every container."""
        return self.pod_dir(uid) / _ETC

    def container_dir(self, uid: str, container: str) -> Path:
        """A container's logs and last words; one may be called like a folder of the pod's."""
        return self.pod_dir(uid) / (f"{container}.container" if container in (_VOLUMES, _ETC) else container)

    def log_path(self, uid: str, container: str, number: int) -> Path:
        """The log of one run of a container."""
        return self.container_dir(uid, container) / f"{number}.log"

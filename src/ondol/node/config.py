"""What the node agent is told when it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.base.backoff import Backoff

_BACKOFF: Final = Backoff(initial_s=1.0, maximum_s=60.0)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One instance on one host. Restart back-off is 1 s to 60 s where Kubernetes has 10 s to 300 s."""

    instance: str
    """Six hexadecimal digits: part of every name this node makes on the host."""
    name: str
    data_dir: Path
    host_ip: str
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    run_root: Path = Path("/run/ondol")
    mesh_enabled: bool = True
    mesh_patience_s: float = 10.0
    drain_s: float = 2.0
    """How long a pod in the mesh that was an endpoint answers on before SIGTERM; 0 is not at all."""
    api_host: str = ""
    api_port: int = 0
    """Where this node's own HTTP interface listens: empty is `host_ip`, port 0 a free one."""
    api_token: str = ""
    """Bearer token its callers must show; empty refuses everyone but health checks."""
    runtime: str = ""
    """`crun` or `runc`; empty takes the first that works."""
    dns_port: int = 53
    upstream_dns: tuple[str, ...] = ()
    """Name servers for names outside the cluster; empty takes the host's."""
    mtu: int = 1500
    max_pods: int = 110
    labels: dict[str, str] = field(default_factory=dict)
    restart_backoff: Backoff = _BACKOFF
    image_backoff: Backoff = _BACKOFF
    log_bytes_max: int = 10 * 1024 * 1024
    log_files_max: int = 5
    housekeeping_interval_s: float = 10.0
    lease_interval_s: float = 10.0

    @property
    def run_dir(self) -> Path:
        return self.run_root / self.instance

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
    def gateway(self) -> ipaddress.IPv4Address:
        """The bridge's address: the pods' router and name server."""
        return self.pods[1]

    def pod_dir(self, uid: str) -> Path:
        return self.data_dir / "pods" / uid

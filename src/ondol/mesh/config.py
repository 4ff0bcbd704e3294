"""What the mesh needs to know of the platform it runs in; composed by whoever builds the platform."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ondol.contracts import cluster, proxy


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Addresses of `xds`, `admin` and `observe` are `unix:/path` or `host:port`."""

    netns_dir: Path
    """Folder in which a pod's network namespace is mounted under the pod's uid."""
    xds_address: str
    admin_address: str
    bootstrap_file: Path
    """Where the proxy's start document is written."""
    observe_address: str = ""
    """Where spans go by OTLP over HTTP; empty turns tracing off."""
    outbound_dir: Path | None = None
    """Folder for the sockets by which parts of the platform call services as pods do, `contracts.proxy`'s
    `outbound_socket` each; none are opened when absent."""
    ingress_address: str = "127.0.0.1"
    ingress_port: int = 8080
    ingress_tls_port: int = 8443
    """Where the ingress gateway speaks TLS."""
    reserved_ports: frozenset[int] = frozenset()
    """Ports on which other parts of the platform listen."""
    open_ports: tuple[range, ...] = (range(1, 65536),)
    """Ports that Gateways may open at the ingress address, beside the ingress port."""
    ingress_namespace: str = cluster.PLATFORM_NAMESPACE
    cluster_domain: str = cluster.DOMAIN
    resolvers: tuple[str, ...] = ()
    """Name servers (`host:port`) of which the proxy asks names; without any, those of the host."""
    registry_only: bool = False
    """Calls to what the mesh does not know are refused where no Sidecar says otherwise."""
    trace_sampling_percent: float = 100.0
    access_log: Path | None = None
    """File that gets one line a request; none are written when absent."""
    access_log_is_on: bool = True
    """Whether lines are written where no Telemetry asks for any."""
    access_log_is_text: bool = False
    """Whether its lines are text, as Istio's proxy writes them by default."""
    concurrency: int = 2
    max_connections: int = 20_000
    """Connections the proxy holds at once, over all pods; more are refused."""
    max_heap_bytes: int = 1 << 30
    """At 95 % of it the proxy refuses new requests rather than be killed."""
    debounce_s: float = 0.005
    """How long changes that follow a change are gathered before the next translation."""
    node_id: str = "ondol"
    mark: int = proxy.mark("000000")
    """What the kernel knows the proxy's connections by."""
    passthrough_mark: int = proxy.mark("000000", passthrough=True)
    """The same for those to where a pod was going by itself."""

    @property
    def state_file(self) -> Path:
        """Refused objects and what serves in their place, for a control plane that starts anew."""
        return self.bootstrap_file.with_name("mesh-refused.json")

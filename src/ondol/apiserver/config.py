"""What the API server is told when it is built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from ondol.api import release
from ondol.api.pod_security import policies
from ondol.apiserver.auth import request_headers
from ondol.apiserver.state_metrics import allowing


@dataclass(frozen=True, slots=True)
class Audit:
    """What is audited, and where to."""

    policy: str
    """The text of an `audit.k8s.io/v1` Policy."""
    file: Path
    size_bytes: int = 100 * 1024 * 1024
    """When the file is put aside; 0 is never."""
    backups: int = 10
    """How many of those put aside are kept; 0 is all."""
    age_days: int = 0
    """How long they are kept; 0 is for ever."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Addresses and limits; the defaults are those of kube-apiserver unless a comment says why not."""

    service_cidr: str = "10.96.0.0/16"
    node_ports: tuple[int, int] = (30000, 32767)
    pod_cidr: str = ""
    """Addresses of pods, the node's own among them: no Service may have one as an external IP."""
    own_ports: frozenset[int] = frozenset()
    """Where the platform's parts listen at `advertise_address`: no endpoint of a user's may be there."""
    proxied_ports: frozenset[int] = frozenset()
    """Those of `own_ports` behind Services that services/proxy leads to: Eventing's, which have no pods."""
    deny_external_ips: bool = False
    enforce_owner_references: bool = False
    """Whether setting an owner takes rights, as Kubernetes' OwnerReferencesPermissionEnforcement has it."""
    advertise_address: str = "192.0.2.1"
    """Where pods reach this server: the endpoint of the `kubernetes` Service, which cannot be loopback.

    The default is nobody's: for a server that no pod calls.
    """
    advertise_port: int = 6443
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    """Who signs service-account tokens, and the audience they are for by default."""
    token_file: str = ""
    """The content of a file of tokens (`auth.token_file`); none if it is empty."""
    authentication: str = ""
    """The text of an AuthenticationConfiguration (`auth.oidc`); none if it is empty."""
    audit: Audit | None = None
    ca_certificate: str = ""
    """PEM of the authority that signed this server's certificate; published to every namespace."""
    front_proxy: str = ""
    """PEM of the authority that signed the certificate which this server shows to other API servers; they
    find it in `kube-system/extension-apiserver-authentication`. None if it is empty."""
    request_headers: request_headers.Names = request_headers.STANDARD
    """In which headers proxies in front of this server name users."""
    body_bytes_max: int = 3 * 1024 * 1024
    bodies_bytes_max: int = 128 * 1024 * 1024
    """Of all requests under way together; a user has at most half, as of those in flight."""
    body_timeout_s: float = 30.0
    """How long a body may take to arrive."""
    connections_max: int = 16_384
    """Open connections of who is known; a user has at most half, as of requests in flight."""
    reads_in_flight_max: int = 400
    writes_in_flight_max: int = 200
    request_timeout_s: float = 60.0
    patch_timeout_s: float = 34.0
    watch_timeout_s: float = 1800.0
    """Watches without a timeout of their own end after one to two times this."""
    bookmark_interval_s: float = 60.0
    compaction_interval_s: float = 300.0
    event_ttl_s: float = 3600.0
    kubernetes_minor: int = release.MINOR
    """The Kubernetes release whose API is served."""
    scratch_dir: Path | None = None
    """Where a copy for a backup is put while it is sent; none if there are no backups."""
    platform_metrics: Callable[[], Awaitable[bytes]] | None = None
    """Reads the metrics of all parts of the platform this server is of; none if it is of none."""
    mesh_metrics: Callable[[], Awaitable[bytes]] | None = None
    """Reads what the mesh counts of calls, of the same platform."""
    metric_labels: allowing.Allowed = field(default_factory=dict)
    """The labels of objects that `kube_<kind>_labels` tells, by plural; none if it is empty."""
    metric_annotations: allowing.Allowed = field(default_factory=dict)
    """Likewise, of annotations."""
    pod_security: policies.Settings = field(default_factory=policies.Settings)
    """What pods are held to where their namespace has no labels, and for whom nothing holds."""

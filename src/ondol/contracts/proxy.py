"""Names in the proxy: clusters by their destination, their statistics, the marks of its connections.

The mesh configures the proxy by these; the autoscaler reads its statistics, observe its spans, and the
node's firewall rules its marks.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ondol.contracts import cluster

BLACKHOLE: Final = "BlackHoleCluster"
"""Nowhere: connections that are led there end."""
_CLUSTER: Final = re.compile(
    r"outbound\|(?P<port>\d+)\|(?P<subset>[^|]*)\|(?P<host>[^|]+)(?:\|(?P<scope>[^|]*))?"
)


class Destination(NamedTuple):
    """What a cluster of the proxy leads to."""

    host: str
    """The full name of a service."""
    port: int
    subset: str = ""
    """Of a DestinationRule; empty for all endpoints."""
    scope: str = ""
    """The namespace whose calls alone it is for, where those are governed otherwise; else empty."""


def cluster_name(host: str, port: int, subset: str = "", scope: str = "") -> str:
    """The cluster of a destination: Istio's name, with the scope added where there is one.

    `outbound|80|v1|web.default.svc.cluster.local`
    """
    name = f"outbound|{port}|{subset}|{host}"
    return f"{name}|{scope}" if scope else name


def destination(name: str) -> Destination | None:
    """What the name of a cluster says; None for one that is no service's."""
    match = _CLUSTER.fullmatch(name)
    if match is None:
        return None
    return Destination(match["host"], int(match["port"]), match["subset"], match["scope"] or "")


CALLS_OUT: Final = "mesh.ondol.dev/calls-out"
"""Label of a Service of the platform's: the part behind it calls services by `outbound_socket`, which there
are while such a Service is there."""


def outbound_socket(port: int) -> str:
    """The name of the socket by which parts of the platform call what services have at a port, as pods do.

    An HTTP/1.1 or HTTP/2 server, which goes by the authority (`Host`) of each request. There is one for each
    port at which a service speaks HTTP.
    """
    return f"{port}.sock"


# Statistics

CLUSTER_TAG: Final = "envoy.cluster_name"
"""The tag under which statistics have their cluster's name."""
CLUSTER_LABEL: Final = CLUSTER_TAG.replace(".", "_")
"""The same as a label in Prometheus' form."""

ACTIVE: Final = "upstream_rq_active"
"""Gauge: requests under way to a cluster."""
TOTAL: Final = "upstream_rq_total"
"""Counter: requests that were sent to a cluster."""
TIME: Final = "upstream_rq_time"
"""Histogram: milliseconds from a request to the end of its answer."""
REQUESTS: Final = (ACTIVE, TOTAL, TIME)


def statistic(cluster_name: str, name: str) -> str:
    """The whole name of a cluster's statistic."""
    return f"cluster.{cluster_name}.{name}"


def revision_cluster(revision: str, namespace: str, port: int) -> str:
    """The cluster of a revision's own Service, by which its requests are counted whoever calls."""
    return cluster_name(cluster.service_host(revision, namespace), port)


# Spans

CLUSTER_ATTRIBUTES: Final = ("upstream_cluster.name", "upstream_cluster")
"""The attributes by which a span names the cluster that was called; the first that has a value counts."""
CALLEE_ATTRIBUTE: Final = "upstream_cluster.canonical_service"
"""What traces call who was called, if that is not the name in the cluster's: a revision's is its service."""


# Connections

MARK: Final = 0x0D00_0000
MARK_MASK: Final = 0xDF00_0000
INSTANCE_MASK: Final = 0x00FF_FFFF
_PASSTHROUGH: Final = 0x2000_0000
LINGER_S: Final = 900
"""What a proxy that was succeeded gets; then what is still open is cut. As Envoy's own default."""


def mark(instance: str, *, passthrough: bool = False) -> int:
    """What the proxy of an instance (six hexadecimal digits) puts on its connections (SO_MARK).

    In a pod's network namespace the redirect lets them pass; in the host's, where the ingress' begin, nothing
    else tells the kernel for whom they are. `passthrough` is for destinations that the caller chose itself.
    """
    return MARK | int(instance, 16) | (_PASSTHROUGH if passthrough else 0)

"""How the proxy counts calls: names of its statistics, and what their tags pack together.

The mesh has the proxy count (`ondol.mesh.translate.statistics`), `observe` makes Istio's standard metrics of
what it counted. A tag for each of Istio's labels would be configured and formatted for every port of every
pod and every metric; so all that is told of a call is one text, which the page takes apart again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VERSION: Final = "1.31.0"
"""Whose configuration is spoken, as Istio numbers it."""
PREFIX: Final = "istio_"
"""With which the names of all these statistics begin."""
SEPARATOR: Final = "|"
"""In no name, label value or identity of Kubernetes."""
UNKNOWN: Final = "unknown"
CLUSTER: Final = "Kubernetes"
"""What Istio calls a cluster by, if nobody named it."""

CALL: Final = "call"
"""Tag: what is told of a call, the `FIELDS` in their order, parted by `FIELD_SEPARATOR`."""
FIELD_SEPARATOR: Final = ";"
ABSENT: Final = "-"
"""A field of which nothing is known."""
REPORTER: Final = "reporter"
SOURCE: Final = "source"
"""The workload that calls, packed."""
DESTINATION: Final = "destination"
"""The workload that is called, packed."""
UPSTREAM: Final = "cluster"
"""The name of the proxy's cluster, or of the server that TLS asked for."""
NAMESPACE: Final = "namespace"
"""Of the object that a host outside is from."""
SERVICE: Final = "service"
"""The host by which the called workload is reached, where the name of no cluster says it."""
PRINCIPAL: Final = "principal"
"""What the caller's certificate says."""
SECURITY: Final = "security"
CODE: Final = "response_code"
GRPC: Final = "grpc"
FLAGS: Final = "response_flags"
FIELDS: Final = (
    REPORTER,
    SOURCE,
    DESTINATION,
    UPSTREAM,
    NAMESPACE,
    SERVICE,
    PRINCIPAL,
    SECURITY,
    CODE,
    GRPC,
    FLAGS,
)
REMOVED: Final = "removed"
"""Tag: labels that a Telemetry takes away, parted by `SEPARATOR`."""
ADDED: Final = "tag_"
"""With which the tags begin that a Telemetry sets; the rest is the label."""

REQUESTS: Final = "istio_requests_total"
DURATION: Final = "istio_request_duration_milliseconds"
REQUEST_BYTES: Final = "istio_request_bytes"
RESPONSE_BYTES: Final = "istio_response_bytes"
REQUEST_MESSAGES: Final = "istio_request_messages_total"
RESPONSE_MESSAGES: Final = "istio_response_messages_total"
TCP_SENT: Final = "istio_tcp_sent_bytes_total"
TCP_RECEIVED: Final = "istio_tcp_received_bytes_total"
TCP_OPENED: Final = "istio_tcp_connections_opened_total"
TCP_CLOSED: Final = "istio_tcp_connections_closed_total"

LABELS: Final = (
    "reporter",
    *(
        f"{side}_{name}"
        for side in ("source", "destination")
        for name in (
            "workload",
            "workload_namespace",
            "principal",
            "app",
            "version",
            "canonical_service",
            "canonical_revision",
            "cluster",
        )
    ),
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
"""Istio's labels, in the order in which they are shown."""


class Workload(NamedTuple):
    """Who calls or is called, as Istio's labels tell it; empty is unknown."""

    name: str = ""
    namespace: str = ""
    principal: str = ""
    app: str = ""
    version: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""

    def packed(self) -> str:
        return SEPARATOR.join(self)

    @staticmethod
    def unpacked(text: str) -> Workload:
        """Of what was not packed here, nothing is known."""
        parts = text.split(SEPARATOR)
        return Workload(*parts) if len(parts) == len(Workload._fields) else Workload()

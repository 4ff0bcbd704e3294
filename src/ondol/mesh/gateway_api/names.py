"""The kinds of Gateway API that are served, and the words of its statuses."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Resource

GROUP: Final = "gateway.networking.k8s.io"
CONTROLLER: Final = "ondol.dev/gateway-controller"
"""GatewayClasses with this controller are the mesh's, whatever their names."""
CLASSES: Final = ("istio", "ondol")
"""Those that every platform has from its first start; samples of Istio name the first."""
BUNDLE_VERSION: Final = "v1.6.1"

GATEWAY_CLASS: Final = Resource(GROUP, "v1", "gatewayclasses", "GatewayClass", namespaced=False)
GATEWAY: Final = Resource(GROUP, "v1", "gateways", "Gateway")
LISTENER_SET: Final = Resource(GROUP, "v1", "listenersets", "ListenerSet")
HTTP_ROUTE: Final = Resource(GROUP, "v1", "httproutes", "HTTPRoute")
GRPC_ROUTE: Final = Resource(GROUP, "v1", "grpcroutes", "GRPCRoute")
TLS_ROUTE: Final = Resource(GROUP, "v1", "tlsroutes", "TLSRoute")
TCP_ROUTE: Final = Resource(GROUP, "v1", "tcproutes", "TCPRoute")
REFERENCE_GRANT: Final = Resource(GROUP, "v1", "referencegrants", "ReferenceGrant")

ROUTES: Final = (HTTP_ROUTE, GRPC_ROUTE, TLS_ROUTE, TCP_ROUTE)
HTTP_KINDS: Final = ("HTTPRoute", "GRPCRoute")

ACCEPTED: Final = "Accepted"
PROGRAMMED: Final = "Programmed"
RESOLVED_REFS: Final = "ResolvedRefs"
CONFLICTED: Final = "Conflicted"

"""The client of the Kubernetes API: verbs, watches and discovery over a transport.

Used by controllers, the node, the mesh and the command line; it never holds server code.
"""

from ondol.client.asgi import AsgiTransport
from ondol.client.client import Client, ObjectList, PatchType
from ondol.client.kubeconfig import at_socket, from_kubeconfig, in_cluster
from ondol.client.transport import Call, ConnectionLost, Response, StreamResponse, Transport
from ondol.client.watch import WatchEvent

__all__ = [
    "AsgiTransport",
    "Call",
    "Client",
    "ConnectionLost",
    "ObjectList",
    "PatchType",
    "Response",
    "StreamResponse",
    "Transport",
    "WatchEvent",
    "at_socket",
    "from_kubeconfig",
    "in_cluster",
]

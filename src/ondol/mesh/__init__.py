"""The service mesh: Istio's traffic kinds translated for one Envoy that listens inside every pod.

`add_to` is for the process that runs controllers; `process` and `bootstrap` are for whoever starts
Envoy. Protobuf and gRPC are imported only by the first.
"""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.base.metrics import Collector
from ondol.mesh.config import MeshConfig
from ondol.sdk import Manager

__all__ = ["MeshConfig", "add_to", "crds"]


def add_to(manager: Manager, config: MeshConfig) -> Collector:
    """Add the mesh's controllers and its xDS server to a manager; what the server counts."""
    from ondol.mesh import controller  # noqa: PLC0415 - protobuf and gRPC are for this process alone

    return controller.add_to(manager, config).hub.families


def crds() -> list[Object]:
    """The definitions of the kinds the mesh serves, to be installed before it is added."""
    from ondol.mesh import definitions  # noqa: PLC0415 - see above
    from ondol.mesh.gateway_api import definitions as gateway_api  # noqa: PLC0415 - see above

    return [*definitions.crds(), *gateway_api.crds()]

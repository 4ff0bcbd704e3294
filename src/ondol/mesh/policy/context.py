"""What is around a workload's policies when filters are made of them: where servers they ask are. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ondol.mesh.translate import hosts


def _nowhere(_host: str, _port: int) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """`cluster` is the name of the cluster of a Service of the mesh, by its full host name and a port."""

    cluster: Callable[[str, int], str | None] = _nowhere
    cluster_domain: str = "cluster.local"
    clears_routes: bool = False
    """Whether routes are chosen by claims, and so anew after a token was checked."""

    def find(self, host: str, port: int, namespace: str) -> str | None:
        """The cluster of a host as an object of the namespace calls it; None if no Service has the name."""
        names = hosts.completions(host, namespace, self.cluster_domain)
        return next((name for each in names if (name := self.cluster(each, port)) is not None), None)

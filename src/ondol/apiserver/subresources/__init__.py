"""Subresources and kinds that act (bind, evict, review, stream a log) and store no object of their own.

`PARTS` are found by resource and subresource, `ANSWERED` by group and resource (`pods.metrics.k8s.io`):
bindings, reviews, component statuses and metrics are answered, never stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.served import Served
from ondol.apiserver.subresources import (
    binding,
    component_statuses,
    eviction,
    finalize,
    logs,
    port_forward,
    proxy,
    resource_metrics,
    reviews,
    streams,
    tokens,
)

Handler = Callable[[Core, Request, Served], Awaitable[Answer]]

PARTS: Final[dict[tuple[str, str], Handler]] = {
    ("pods", "binding"): binding.create,
    ("pods", "attach"): streams.attach,
    ("pods", "eviction"): eviction.create,
    ("pods", "exec"): streams.execute,
    ("pods", "log"): logs.get,
    ("pods", "portforward"): port_forward.forward,
    ("nodes", "proxy"): proxy.connect,
    ("pods", "proxy"): proxy.connect,
    ("services", "proxy"): proxy.connect,
    ("namespaces", "finalize"): finalize.update,
    ("serviceaccounts", "token"): tokens.create,
}
ANSWERED: Final[dict[str, Handler]] = {
    "bindings": binding.create_legacy,
    "componentstatuses": component_statuses.read,
    "nodes.metrics.k8s.io": resource_metrics.read_nodes,
    "pods.metrics.k8s.io": resource_metrics.read_pods,
    **dict.fromkeys(reviews.RESOURCES, reviews.create),
}

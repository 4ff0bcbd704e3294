"""The API server: an ASGI application that is the Kubernetes API over the store.

Built by compose, and by tests in process; every other part of the platform reaches it as a client.
It keeps and checks objects and tells of their changes; it never acts on them.
"""

from __future__ import annotations

import random

from ondol.apiserver.app import App
from ondol.apiserver.assembly import assemble
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.ports import Authenticator, Authorizer, NodeProxy
from ondol.base.clock import Clock
from ondol.store import Store

__all__ = ["ApiConfig", "App", "build"]


def build(
    config: ApiConfig,
    store: Store,
    clock: Clock,
    rng: random.Random,
    *,
    authenticator: Authenticator | None = None,
    authorizer: Authorizer | None = None,
    node_proxy: NodeProxy | None = None,
) -> App:
    """The application.

    Without an authenticator only callers in this process are known, all others are anonymous;
    without an authorizer the RBAC objects in the store decide.
    """
    return assemble(
        config, store, clock, rng, authenticator=authenticator, authorizer=authorizer, node_proxy=node_proxy
    )

"""The API server: an ASGI application that is the Kubernetes API over the store.

Built by compose, and by tests in process; every other part of the platform reaches it as a client.
It keeps and checks objects and tells of their changes; it never acts on them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from ondol.apiserver import kinds
from ondol.apiserver.app import App
from ondol.apiserver.assembly import assemble
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.ports import (
    Admission,
    Authenticator,
    Authorizer,
    Forwarder,
    Getter,
    KindRules,
    NodeProxy,
    Poster,
)
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
    service_account_key: bytes | None = None,
    authority_key: bytes | None = None,
    node_proxy: NodeProxy | None = None,
    forwarder: Forwarder | None = None,
    rules: Mapping[str, KindRules] | None = None,
    admission: Admission | None = None,
    poster: Poster | None = None,
    getter: Getter | None = None,
    builtin: kinds.Table = kinds.BUILTIN,
) -> App:
    """The application.

    Callers are known by what the edge verified (a client certificate, or an identity set in this
    process) and, with a `service_account_key` (PEM), by service-account tokens, which are then also
    issued. With an `authority_key` (PEM, of the authority in `config`) approved requests for
    certificates are signed. The RBAC objects in the store decide what they may do. An `authenticator`
    or `authorizer` takes the place of either. `rules`, by group and resource, hold custom kinds to more
    than their schema. `admission` is asked of every write, and may wait. Without a `poster`
    no webhooks are called, without a `getter` no issuers of tokens are asked, without a
    `forwarder` nothing is proxied. `builtin` are the kinds there are without a
    definition.
    """
    return assemble(
        config,
        store,
        clock,
        rng,
        authenticator=authenticator,
        authorizer=authorizer,
        service_account_key=service_account_key,
        authority_key=authority_key,
        node_proxy=node_proxy,
        forwarder=forwarder,
        rules=rules or {},
        admission=admission,
        poster=poster,
        getter=getter,
        builtin=builtin,
    )

"""Puts the server together from its parts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from ondol.apiserver.app import App
from ondol.apiserver.auth import identity, rbac
from ondol.apiserver.auth.authenticate import IDENTITY
from ondol.apiserver.auth.identity import User
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.core import Core
from ondol.apiserver.crds.controller import Controller
from ondol.apiserver.lifecycle import Lifecycle
from ondol.apiserver.ports import Authenticator, Authorizer, NodeProxy
from ondol.base.clock import Clock
from ondol.store import Store


class InProcess:
    """Knows only callers in this process."""

    def authenticate(self, scope: Mapping[str, Any]) -> User:
        if given := scope.get(IDENTITY):
            return identity.authenticated(identity.from_document(given))
        return identity.anonymous()


def assemble(
    config: ApiConfig,
    store: Store,
    clock: Clock,
    rng: random.Random,
    *,
    authenticator: Authenticator | None,
    authorizer: Authorizer | None,
    node_proxy: NodeProxy | None,
) -> App:
    core = Core(config, store, clock, rng)
    core.node_proxy = node_proxy
    crds = Controller(core)
    tasks = [crds.run, lambda: store.compact_forever(clock, config.compaction_interval_s)]
    return App(
        core,
        authenticator or InProcess(),
        authorizer or rbac.Authorizer(core.list_objects),
        Lifecycle(core, tasks, load=crds.load),
    )

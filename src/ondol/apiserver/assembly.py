"""Puts the server together from its parts."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ondol.api import resources
from ondol.api.objects import Object
from ondol.apiserver import housekeeping
from ondol.apiserver.app import App
from ondol.apiserver.auth import authenticate, identity, nodes, rbac
from ondol.apiserver.auth.authenticate import CERTIFICATE, IDENTITY
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.tokens import Tokens
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.core import Core
from ondol.apiserver.crds.controller import Controller
from ondol.apiserver.lifecycle import Lifecycle
from ondol.apiserver.ports import Authenticator, Authorizer, KindRules, NodeProxy
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.store import Record, Store

_HEARTBEAT_EVENTS: Final = 200


class Certified:
    """Knows callers by what the edge verified; tokens mean nothing to it."""

    def authenticate(self, scope: Mapping[str, Any]) -> User:
        for key in (IDENTITY, CERTIFICATE):
            if given := scope.get(key):
                return identity.authenticated(identity.from_document(given))
        if any(name == b"authorization" for name, _ in scope["headers"]):
            raise errors.Unauthorized("Unauthorized")
        return identity.anonymous()


def assemble(
    config: ApiConfig,
    store: Store,
    clock: Clock,
    rng: random.Random,
    *,
    authenticator: Authenticator | None,
    authorizer: Authorizer | None,
    service_account_key: bytes | None,
    node_proxy: NodeProxy | None,
    rules: Mapping[str, KindRules],
) -> App:
    core = Core(config, store, clock, rng)
    for resource in (resources.LEASE, resources.NODE):  # heartbeats: their past interests nobody
        store.bound(core.catalogue.of(resource).bucket, _HEARTBEAT_EVENTS)
    core.node_proxy = node_proxy
    core.rules = rules
    if service_account_key is not None:
        core.tokens = Tokens(
            service_account_key, issuer=config.issuer, clock=clock, lookup=core.lookup, new_id=core.new_uid
        )
    known = authenticate.Authenticator(core.tokens) if core.tokens is not None else Certified()
    crds = Controller(core)
    return App(
        core,
        authenticator or known,
        authorizer or _rbac(core),
        Lifecycle(core, [crds.run, *housekeeping.tasks(core)], load=crds.load),
    )


def _rbac(core: Core) -> rbac.Authorizer:
    """The authorizer over the RBAC objects and the pods kept here, told when the former change."""

    def pods(namespace: str) -> Iterator[tuple[Record, Callable[[], Object]]]:
        served = core.catalogue.of(resources.POD)
        for record in core.store.page(served.bucket, served.prefix(namespace)).records:
            yield record, functools.partial(core.document, served, record)

    authorizer = core.rbac = nodes.Authorizer(core.list_objects, pods)
    for resource in rbac.KINDS:
        core.on_change.setdefault(core.catalogue.of(resource).bucket, []).append(authorizer.invalidate)
    return authorizer

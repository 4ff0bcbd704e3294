"""`Core`: the parts every handler works with, built once and whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ondol.apiserver.admission.chain import Chain
from ondol.apiserver.aggregation.remotes import Remotes
from ondol.apiserver.auth import bootstrap_policy
from ondol.apiserver.auth.bearers import Bearers
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.rbac import Authorizer
from ondol.apiserver.auth.tokens import Tokens
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.deadlines import Deadlines
from ondol.apiserver.documents import Frames
from ondol.apiserver.heavy import Heavy
from ondol.apiserver.metrics import Metrics
from ondol.apiserver.openapi import Documents
from ondol.apiserver.ports import Forwarder, KindRules, NodeProxy
from ondol.apiserver.reservations import Reservations, Reserved
from ondol.apiserver.state import State
from ondol.apiserver.strategy import Context
from ondol.apiserver.turns import Turns
from ondol.base.clock import Clock
from ondol.base.metrics import Collector

_VERSION_BITS: Final = 4 << 76 | 2 << 62
_RANDOM_BITS: Final = ~(15 << 76 | 3 << 62)


class Core:
    """The state of the objects, what decides about writes to them, clock, randomness and configuration."""

    def __init__(
        self,
        config: ApiConfig,
        state: State,
        clock: Clock,
        rng: random.Random,
        *,
        admission: Chain,
        reservations: Reservations,
        grants: Sequence[bootstrap_policy.Grant] = (),
        tokens: Tokens | None = None,
        bearers: Bearers | None = None,
        rbac: Authorizer | None = None,
        node_proxy: NodeProxy | None = None,
        forwarder: Forwarder | None = None,
        rules: Mapping[str, KindRules] | None = None,
        collectors: Sequence[Collector] = (),
        heavy: Heavy | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.rng = rng
        self._audit_ids = random.Random(rng.getrandbits(64))  # noqa: S311 - no secret
        self.state = state
        self.store = state.store
        self.catalogue = state.catalogue
        self.lookup = state.lookup
        self.document = state.document
        self.reader = state.reader
        self.list_objects = state.list_objects
        self.record = state.record
        self.admission = admission
        self.reservations = reservations
        self.cluster_roles = bootstrap_policy.cluster_roles(grants)
        self.cluster_role_bindings = bootstrap_policy.cluster_role_bindings()
        self.tokens = tokens
        """What issues service accounts' tokens."""
        self.bearers = bearers
        """All tokens by which somebody signs in."""
        self.rbac = rbac
        """The authorizer, if it is the one that decides by the RBAC objects kept here."""
        self.node_proxy = node_proxy
        self.forwarder = forwarder
        self.rules: Mapping[str, KindRules] = rules or {}
        """Rules of custom kinds, by group and resource."""
        self.remotes = Remotes()
        self.openapi = Documents(state.catalogue, f"v1.{config.kubernetes_minor}.0", self.remotes)
        self.frames = Frames()
        self.metrics = Metrics(collectors)
        self.turns = Turns()
        self.deadlines = Deadlines(clock)
        self.heavy = heavy or Heavy()
        self.ready = False
        """Whether the server has what it needs to answer."""

    def context(
        self,
        user: User,
        warn: Callable[[str], None],
        reserved: Reserved,
        *,
        dry_run: bool = False,
        annotate: Callable[[str, str], None] | None = None,
    ) -> Context:
        context = Context(user, self.clock.now(), dry_run, self.lookup, warn, reserved)
        return context if annotate is None else context._replace(annotate=annotate)

    def new_audit_id(self) -> str:
        """In the form of a uid, but not worth the system's randomness: it tells answers apart in the log."""
        return _as_uuid(self._audit_ids.getrandbits(128))

    def new_uid(self) -> str:
        return new_uid(self.rng)


def new_uid(rng: random.Random) -> str:
    """A random (version 4) UUID."""
    return _as_uuid(rng.getrandbits(128))


def _as_uuid(number: int) -> str:
    """128 random bits in the form of a UUID: its version is 4, and its variant 0b10."""
    digits = f"{number & _RANDOM_BITS | _VERSION_BITS:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

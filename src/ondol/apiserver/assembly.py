"""Puts the server together from its parts."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ondol.api import resources
from ondol.api.objects import Object
from ondol.apiserver import housekeeping, kinds
from ondol.apiserver.admission import builtin as plugins
from ondol.apiserver.admission.chain import Chain
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.app import App
from ondol.apiserver.auth import authenticate, identity, nodes, rbac
from ondol.apiserver.auth.authenticate import CERTIFICATE, IDENTITY
from ondol.apiserver.auth.bearers import Bearer, Bearers
from ondol.apiserver.auth.bootstrap_tokens import BootstrapTokens
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.tokens import Tokens
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.core import Core, new_uid
from ondol.apiserver.crds.controller import Controller
from ondol.apiserver.heavy import Heavy
from ondol.apiserver.lifecycle import Lifecycle, Task
from ondol.apiserver.policies import Policies
from ondol.apiserver.ports import (
    Admission,
    Auditor,
    Authenticator,
    Authorizer,
    Forwarder,
    Getter,
    KindRules,
    NodeProxy,
    Poster,
)
from ondol.apiserver.priority.priorities import Priorities
from ondol.apiserver.quota_usage import QuotaUsage
from ondol.apiserver.reservations import Reservations
from ondol.apiserver.served import Catalogue
from ondol.apiserver.service_addresses import ServiceAddresses
from ondol.apiserver.signing import controller as signing
from ondol.apiserver.state import State
from ondol.apiserver.webhooks import Webhooks
from ondol.apiserver.webhooks.calling import Caller
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.store import Record, Store

if TYPE_CHECKING:
    from ondol.apiserver.audit.log_file import LogFile
    from ondol.apiserver.auth.oidc.configuration import Configuration
    from ondol.apiserver.auth.oidc.issuers import Issuers

_HEARTBEAT_EVENTS: Final = 200


class Certified:
    """Knows callers by what the edge verified; tokens mean nothing to it."""

    def authenticate(self, scope: Mapping[str, Any]) -> User:
        if in_process := scope.get(IDENTITY):
            return identity.authenticated(identity.from_document(in_process))
        if certificate := scope.get(CERTIFICATE):
            return identity.of_certificate(certificate)
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
    authority_key: bytes | None,
    node_proxy: NodeProxy | None,
    forwarder: Forwarder | None,
    rules: Mapping[str, KindRules],
    admission: Admission | None,
    poster: Poster | None,
    getter: Getter | None,
    builtin: kinds.Table,
) -> App:
    """From below: the state, what decides by it, the core that has both, and what answers with the core."""
    state = State(store, Catalogue(builtin.served()))
    for resource in (resources.LEASE, resources.NODE):  # heartbeats: their past interests nobody
        store.bound(state.catalogue.of(resource).bucket, _HEARTBEAT_EVENTS)
    access = _rbac(state) if authorizer is None else None
    chosen = authorizer or access
    assert chosen is not None  # noqa: S101 - one of them was made above
    reservations = Reservations(store)
    parts = Parts(
        config, state, rng, ServiceAddresses(state, reservations), QuotaUsage(state, reservations), access
    )
    outside: list[Admission] = [admission] if admission is not None else []
    outside.append(Policies(state, chosen))
    webhooks, caller, heavy = None, None, Heavy()
    if poster is not None:
        caller = Caller(state, poster, clock, rng)
        webhooks = Webhooks(
            state, poster, clock, rng, functools.partial(new_uid, rng), authorizer=chosen, heavy=heavy
        )
        outside.append(webhooks)
    auditing = _auditing(config, clock)
    collectors = [webhooks.metrics.collect] if webhooks is not None else []
    collectors += [auditing[1].collect] if auditing is not None else []
    tokens = _tokens(service_account_key, config, state, clock, rng)
    oidc = _oidc(config, tokens, getter, clock) if tokens is not None else None
    bearers = _bearers(config, tokens, state, clock, oidc) if tokens is not None else None
    core = Core(
        config,
        state,
        clock,
        rng,
        admission=Chain(parts, plugins.EVERY, builtin.plugins(), outside),
        reservations=reservations,
        grants=builtin.grants(),
        tokens=tokens,
        bearers=bearers,
        rbac=access,
        node_proxy=node_proxy,
        forwarder=forwarder,
        rules=rules,
        heavy=heavy,
        collectors=collectors,
    )
    certified = _authenticator(bearers, oidc) if bearers is not None else Certified()
    crds = Controller(core, caller)
    tasks = [crds.run, core.deadlines.run, *housekeeping.tasks(core), *_signing(core, authority_key)]
    tasks += oidc[1].tasks if oidc is not None else []
    priorities = Priorities(core)
    tasks += [priorities.follow_levels, priorities.follow_schemas]
    core.metrics.add(priorities.collect)
    if auditing is not None:
        tasks.append(auditing[1].run)
    lifecycle = Lifecycle(core, tasks, load=crds.load)
    learn = (
        certified.learn if oidc is not None and isinstance(certified, authenticate.Authenticator) else None
    )
    auditor = auditing[0] if auditing is not None else None
    return App(
        core,
        authenticator or certified,
        chosen,
        lifecycle,
        priorities=priorities,
        auditor=auditor,
        learn=learn,
    )


def _auditing(config: ApiConfig, clock: Clock) -> tuple[Auditor, LogFile] | None:
    """What keeps the audit log, and what writes it; None without a policy, and then nothing is imported."""
    if config.audit is None:
        return None
    from ondol.apiserver import bodies  # noqa: PLC0415 - only who audits pays for it
    from ondol.apiserver.audit import log_file, policy, trail  # noqa: PLC0415 - likewise

    audit = config.audit
    rotation = log_file.Rotation(audit.size_bytes, audit.backups, audit.age_days)
    file = log_file.LogFile(audit.file, rotation, clock)
    try:
        document = bodies.parse(audit.policy.encode(), bodies.YAML)
    except errors.BadRequest as error:
        raise errors.HostError(f"audit_policy: {error}", remedy="correct that file") from error
    return trail.Auditor(policy.Policy(document), file, clock), file


def _signing(core: Core, key: bytes | None) -> list[Task]:
    """What signs requests for certificates, if there is a key to sign them with."""
    if key is None:
        return []
    controller = signing.Controller(core, key)
    return [controller.run, controller.sweep]


def _tokens(
    key: bytes | None, config: ApiConfig, state: State, clock: Clock, rng: random.Random
) -> Tokens | None:
    """What issues and checks service-account tokens, if there is a key to sign them with."""
    if key is None:
        return None
    return Tokens(
        key, issuer=config.issuer, clock=clock, lookup=state.lookup, new_id=functools.partial(new_uid, rng)
    )


def _oidc(
    config: ApiConfig, tokens: Tokens, getter: Getter | None, clock: Clock
) -> tuple[Configuration, Issuers] | None:
    """Whose tokens are taken beside the server's own; None without a configuration."""
    if not config.authentication or getter is None:
        return None
    from ondol.apiserver import bodies  # noqa: PLC0415 - only who has one pays for it
    from ondol.apiserver.auth.oidc import configuration, issuers  # noqa: PLC0415 - likewise

    try:
        document = bodies.parse(config.authentication.encode(), bodies.YAML)
    except errors.BadRequest as error:
        raise errors.HostError(f"authentication_config: {error}", remedy="correct that file") from error
    read = configuration.Configuration(document, tokens.issuer)
    return read, issuers.Issuers(read, getter, clock, tokens.audiences)


def _authenticator(
    bearers: Bearers, oidc: tuple[Configuration, Issuers] | None
) -> authenticate.Authenticator:
    anonymous = oidc[0].anonymous if oidc is not None else None
    if anonymous is None:
        return authenticate.Authenticator(bearers)
    paths = frozenset(each.path for each in anonymous.conditions) or None
    return authenticate.Authenticator(bearers, anonymous=anonymous.enabled, paths=paths)


def _bearers(
    config: ApiConfig,
    tokens: Tokens,
    state: State,
    clock: Clock,
    oidc: tuple[Configuration, Issuers] | None,
) -> Bearers:
    """All kinds of tokens, in Kubernetes' order but for service accounts: what is no JWT is sooner seen."""
    kinds: list[Bearer] = []
    if config.token_file:
        from ondol.apiserver.auth import token_file  # noqa: PLC0415 - only who has one pays for it

        kinds.append(token_file.FileTokens(config.token_file, tokens.audiences))
    kinds.append(BootstrapTokens(state.lookup, clock, tokens.audiences))
    if oidc is not None:
        kinds.append(oidc[1])
    kinds.append(tokens)
    return Bearers(kinds)


def _rbac(state: State) -> rbac.Authorizer:
    """The authorizer over the RBAC objects and the pods kept here, which sees when the former change."""

    def pods(namespace: str) -> Iterator[tuple[Record, Callable[[], Object]]]:
        served = state.catalogue.of(resources.POD)
        for record in state.records(resources.POD, namespace):
            yield record, functools.partial(state.document, served, record)

    followed = [state.changes(resource) for resource in rbac.KINDS]

    def has_changed() -> bool:
        return sum(changes.take() != [] for changes in followed) > 0  # each of them is asked

    return nodes.Authorizer(state.list_objects, pods, has_changed)

"""Puts the server together from its parts."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ondol.api import resources
from ondol.api.objects import Object
from ondol.apiserver import housekeeping, kinds, signing_in
from ondol.apiserver.admission import builtin as plugins
from ondol.apiserver.admission.chain import Chain
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.aggregation.controller import Controller as Aggregation
from ondol.apiserver.app import App
from ondol.apiserver.auth import nodes, rbac
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
from ondol.apiserver.signing_in import SigningIn
from ondol.apiserver.state import State
from ondol.apiserver.webhooks import Webhooks
from ondol.apiserver.webhooks.calling import Caller
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.store import Record, Store

if TYPE_CHECKING:
    from ondol.apiserver.audit.log_file import LogFile

_HEARTBEAT_EVENTS: Final = 200


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
    callers = signing_in.of(config, service_account_key, state, clock, rng=rng, getter=getter)
    core = Core(
        config,
        state,
        clock,
        rng,
        admission=Chain(parts, plugins.EVERY, builtin.plugins(), outside),
        reservations=reservations,
        grants=builtin.grants(),
        tokens=callers.tokens,
        bearers=callers.bearers,
        rbac=access,
        node_proxy=node_proxy,
        forwarder=forwarder,
        rules=rules,
        heavy=heavy,
        collectors=[webhooks.metrics.collect] if webhooks is not None else (),
    )
    callers = callers._replace(authenticator=authenticator or callers.authenticator)
    return _answering(core, callers, chosen, Controller(core, caller), authority_key=authority_key)


def _answering(
    core: Core,
    callers: SigningIn,
    authorizer: Authorizer,
    crds: Controller,
    *,
    authority_key: bytes | None,
) -> App:
    """What answers with a core, and what runs beside the answers."""
    auditing = _auditing(core.config, core.clock)
    priorities = Priorities(core)
    core.metrics.add(priorities.collect)
    if auditing is not None:
        core.metrics.add(auditing[1].collect)
    tasks = [crds.run, core.deadlines.run, *housekeeping.tasks(core), *_signing(core, authority_key)]
    aggregation = Aggregation(core)
    tasks += [aggregation.run, *callers.tasks, priorities.follow_levels, priorities.follow_schemas]

    def load() -> None:
        crds.load()
        aggregation.load()

    tasks += [auditing[1].run] if auditing is not None else []
    return App(
        core,
        callers.authenticator,
        authorizer,
        Lifecycle(core, tasks, load=load),
        priorities=priorities,
        auditor=auditing[0] if auditing is not None else None,
        learn=callers.learn,
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

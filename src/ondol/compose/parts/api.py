"""The part `api`: the API server with the store."""

from __future__ import annotations

import os
import random
import resource
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ondol.api import own_paths
from ondol.api.pod_security import policies
from ondol.base import comma_list, errors
from ondol.compose import addresses, credentials, custom_rules, hints
from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import process
from ondol.compose.parts.process import Context
from ondol.compose.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ondol.apiserver import ApiConfig
    from ondol.apiserver.auth.request_headers import Names
    from ondol.apiserver.config import Audit
    from ondol.apiserver.listening import Listen, ListenLocal
    from ondol.apiserver.peers import ProxyAuthority
    from ondol.apiserver.pki import Pki
    from ondol.apiserver.server import ServeConfig


def part(instance: Instance, settings: Settings) -> Part:
    """Who speaks to the API server ends before it."""
    return Part(
        "api",
        process.runner(main, instance, settings),
        outlives=credentials.COMPONENTS,
        silence_max_s=process.SILENCE_MAX_S,
        address=instance.api_url,
        idle_memory_mib=58,
    )


async def main(context: Context) -> None:
    from ondol import apiserver, store
    from ondol.apiserver import connections, documents, server
    from ondol.apiserver.handlers import backups
    from ondol.compose import exposition, renewing, tls
    from ondol.compose.forwarder import HttpForwarder
    from ondol.compose.https_poster import HttpsPoster
    from ondol.compose.node_proxy import HttpNodeProxy

    instance, settings, clock = context.instance, context.settings, context.clock
    limits = connections.bounds(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    backups.remove_leftovers(instance.data_dir)
    pki = credentials.certify(instance, clock)
    with hints.restorable(instance.data_dir):
        commits = store.CommitMetrics(clock, instance.store_file)
        log_store = store.open_file(instance.store_file, check=documents.looks_whole, metrics=commits)
    config = _config(instance, settings, pki, limits.authenticated)
    poster = HttpsPoster()
    agent = instance.socket("node"), credentials.node_token(instance)
    forwarder = HttpForwarder(*agent, clock, tls.Showing(*pki.front_proxy_files))
    rules = custom_rules.CustomRules(instance, settings)
    app = apiserver.build(
        config,
        log_store,
        clock,
        random.SystemRandom(),
        service_account_key=pki.service_account_key_file.read_bytes(),
        authority_key=pki.ca_key_file.read_bytes(),
        node_proxy=HttpNodeProxy(*agent),
        forwarder=forwarder,
        poster=poster,
        getter=poster,
        rules=rules.by_kind,
    )
    rules.read_by(app.core.lookup)
    serve = _serve_config(context, pki, app.core.remotes.is_for, limits.unauthenticated)

    def started(_addresses: object) -> None:
        process.settle()
        context.notify()

    try:
        async with (
            exposition.exposed(instance, "api", app.core.metrics.collect, commits.collect),
            renewing.certificates(instance, clock),
        ):
            await server.serve(app, serve, started=started)
    finally:
        log_store.close()  # first: whoever is cancelled waits for nothing
        await poster.aclose()
        await forwarder.aclose()


def _serve_config(
    context: Context, pki: Pki, is_elsewhere: Callable[[bytes], bool], unauthenticated_max: int
) -> ServeConfig:
    from ondol.apiserver import server

    instance, settings = context.instance, context.settings
    return server.ServeConfig(
        listen=_listen(instance),
        local=_local(instance, credentials.node_name(settings)),
        certificate_file=pki.server_certificate_file,
        key_file=pki.server_key_file,
        client_ca_file=pki.ca_file,
        proxies=_proxies(settings, pki),
        is_elsewhere=is_elsewhere,
        unauthenticated_max=unauthenticated_max,
        listeners=context.notify.listeners,
    )


def _local(instance: Instance, node: str) -> tuple[ListenLocal, ...]:
    """One socket for each part that asks: by which it comes says who it is."""
    from ondol.apiserver.listening import ListenLocal

    named = credentials.users(node).items()
    return tuple(ListenLocal(instance.api_socket(name), *user) for name, user in named)


def _listen(instance: Instance) -> tuple[Listen, ...]:
    """Where it listens: for this machine, and for pods where there are any."""
    from ondol.apiserver.listening import Listen

    here = Listen("127.0.0.1", instance.ports.api)
    if os.geteuid() != 0:
        return (here,)
    return here, Listen(instance.bridge_address, instance.ports.api, free=True)


def _proxies(settings: Settings, pki: Pki) -> tuple[ProxyAuthority, ...]:
    """Who is believed about users: this server itself, as in Kubernetes, and whom the settings name."""
    from ondol.apiserver import peers
    from ondol.apiserver.pki import FRONT_PROXY

    own = peers.ProxyAuthority(pki.front_proxy_ca_file.read_bytes(), frozenset({FRONT_PROXY}))
    if not settings.requestheader_client_ca_file:
        return (own,)
    names = frozenset(comma_list.items(settings.requestheader_allowed_names))
    file = settings.requestheader_client_ca_file
    other = peers.ProxyAuthority(_text(file).encode(), names)
    if not peers.are_certificates(other.certificates):
        raise errors.HostError(
            f"requestheader_client_ca_file: {file} has no certificates in PEM", remedy=f"correct {file}"
        )
    return own, other


def _names(settings: Settings) -> Names:
    from ondol.apiserver.auth.request_headers import Names

    return Names(
        tuple(comma_list.items(settings.requestheader_username_headers)),
        tuple(comma_list.items(settings.requestheader_uid_headers)),
        tuple(comma_list.items(settings.requestheader_group_headers)),
        tuple(comma_list.items(settings.requestheader_extra_headers_prefix)),
    )


def _config(instance: Instance, settings: Settings, pki: Pki, connections_max: int) -> ApiConfig:
    """What the server is told of the instance and its settings."""
    from ondol import apiserver
    from ondol.apiserver.state_metrics import allowing
    from ondol.compose import exposition

    return apiserver.ApiConfig(
        service_cidr=instance.service_cidr,
        pod_cidr=instance.pod_cidr,
        own_ports=addresses.inner_ports(instance),
        proxied_ports=addresses.proxied_ports(instance),
        enforce_owner_references=settings.enforce_owner_references,
        deny_external_ips=settings.deny_external_ips,
        advertise_address=instance.bridge_address,
        advertise_port=instance.ports.api,
        ca_certificate=pki.ca_file.read_text(encoding="ascii"),
        front_proxy=pki.front_proxy_ca_file.read_text(encoding="ascii"),
        request_headers=_names(settings),
        scratch_dir=instance.data_dir,
        platform_metrics=partial(exposition.page, instance),
        mesh_metrics=partial(exposition.page, instance, own_paths.MESH_METRICS),
        connections_max=connections_max,
        metric_labels=allowing.parse(settings.metric_labels_allowlist),
        metric_annotations=allowing.parse(settings.metric_annotations_allowlist),
        pod_security=pod_security(settings),
        token_file=_text(settings.token_file),
        authentication=_text(settings.authentication_config),
        audit=_audit(settings),
    )


def _audit(settings: Settings) -> Audit | None:
    """What is audited, and where to; None if nothing is."""
    from ondol.apiserver import config

    if not settings.audit_policy:
        if settings.audit_log:
            remedy = "name a policy (audit_policy), or leave audit_log empty"
            raise errors.HostError(
                "audit_log is set, and no audit_policy says what belongs into it", remedy=remedy
            )
        return None
    return config.Audit(
        _text(settings.audit_policy),
        Path(settings.audit_log) if settings.audit_log else settings.data_dir / "audit.log",
        size_bytes=settings.audit_log_max_mib * 1024 * 1024,
        backups=settings.audit_log_backups,
        age_days=settings.audit_log_days,
    )


def _text(file: str) -> str:
    """The content of a file that a setting names; empty if it names none."""
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.HostError(
            f"{file} cannot be read: {errors.why(error)}", remedy=f"correct {file}"
        ) from error


def pod_security(settings: Settings) -> policies.Settings:
    """The levels that pods are held to, and whose pods are exempt."""
    enforce, audit, warn = (
        policies.parse_level_version(text)
        for text in (settings.pod_security_enforce, settings.pod_security_audit, settings.pod_security_warn)
    )
    return policies.Settings(
        policies.Policy(enforce, audit, warn),
        exempt_users=frozenset(comma_list.items(settings.pod_security_exempt_users)),
        exempt_namespaces=frozenset(comma_list.items(settings.pod_security_exempt_namespaces)),
        exempt_runtime_classes=frozenset(comma_list.items(settings.pod_security_exempt_runtime_classes)),
    )

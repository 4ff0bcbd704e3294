"""Which part runs in which process, and how each is put together from instance and settings.

Every `_run_*` function is called in the forked child; what only that part needs is imported there,
so that the supervisor, and so every other part, does not carry it.
"""
# ruff: noqa: PLC0415 - the imports inside functions are the point of this module

from __future__ import annotations

import errno
import importlib
import os
import random
import resource
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc

from ondol import client as clients
from ondol.api.pod_security import policies
from ondol.base import errors, files, host_ports, log, unix_socket
from ondol.base.clock import SystemClock
from ondol.base.host_ports import HostPort
from ondol.client import Client
from ondol.compose.instance import Instance
from ondol.compose.settings import Settings, listed
from ondol.compose.supervisor import Notify, Part

# What at least two parts use and what starts no thread: imported once, before the fork.
_SHARED: Final = (
    "anyio._backends._asyncio",
    "uvloop",
    "msgspec",
    "aiohttp",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "ondol.client.http",
    "ondol.sdk",
    "ondol.api.kinds",
    "ondol.api.patch.strategic",
)
_API_POLL_S: Final = 0.02
_TELEMETRY_NICENESS: Final = 10
_BEAT_S: Final = 5.0
_SILENCE_MAX_S: Final = 30.0
_COMPONENTS: Final = ("control", "node", "gateway")
_DNS_PORT: Final = 53
# Common names of certificates have 64 characters, and "system:node:" comes first.
_NODE_NAME_MAX: Final = 52


def preload() -> None:
    """Import what the parts share."""
    for module in _SHARED:
        importlib.import_module(module)


def parts(instance: Instance, settings: Settings) -> list[Part]:
    """Every part of the platform, in the order of their start."""
    mesh = mesh_config(instance, settings)
    ours = partial(Part, silence_max_s=_SILENCE_MAX_S)

    def envoy_ready() -> bool:
        from ondol.mesh import process

        return process.ready(mesh, timeout_s=0.5)

    return [
        ours("api", partial(_run, _api, instance, settings), outlives=_COMPONENTS, address=instance.api_url),
        ours("control", partial(_run, _control, instance, settings), address=_unix(instance, "xds")),
        # uvloop leaves copies of a child's pipes open in the child, and a container's shim outlives us.
        ours(
            "node",
            partial(_run, _node, instance, settings, fast_loop=False),
            address=_unix(instance, "node"),
        ),
        ours("gateway", partial(_run, _gateway, instance, settings), address=instance.bridge_address),
        ours(
            "observe",
            partial(_run, _observe, instance, settings),
            outlives=("envoy",),
            address=instance.spans_url,
        ),
        Part(
            "envoy",
            partial(_exec_envoy, instance, settings),
            after=("control",),
            probe=envoy_ready,
            silence_max_s=_SILENCE_MAX_S,
            address=_ingress_url(settings.ingress_address, instance.ports.ingress),
        ),
    ]


def _unix(instance: Instance, name: str) -> str:
    return f"{unix_socket.PREFIX}{instance.socket(name)}"


def _ingress_url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def remove_pods(instance: Instance, settings: Settings) -> None:
    """Stop every container of the instance and undo what it did to the machine's network."""
    from ondol import node

    node.cleanup(node_config(instance, settings))


Main = Callable[[Instance, Settings, Notify], Coroutine[Any, Any, None]]


def _run(
    main: Main, instance: Instance, settings: Settings, notify: Notify, *, fast_loop: bool = True
) -> None:
    """Run a part's coroutine until SIGTERM."""
    log.configure(level=settings.log_level)

    async def until_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with anyio.create_task_group() as group:

                async def serve() -> None:
                    await main(instance, settings, notify)
                    group.cancel_scope.cancel()

                group.start_soon(_beat, notify)
                group.start_soon(serve)
                async for _ in signals:
                    group.cancel_scope.cancel()
                    return

    try:
        anyio.run(until_signal, backend_options={"use_uvloop": fast_loop})
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _beat(notify: Notify) -> None:
    """Say from the event loop that it goes round."""
    while True:
        notify.alive()
        await anyio.sleep(_BEAT_S)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error worth telling: the first that is not a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _api(instance: Instance, settings: Settings, notify: Notify) -> None:
    from ondol import apiserver, store
    from ondol.apiserver import connections, documents, server, unsupported
    from ondol.apiserver.handlers import backups
    from ondol.serverless.serving import podspec, validation

    clock, rng = SystemClock(), random.SystemRandom()
    allowed = connections.bounds(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    backups.remove_leftovers(instance.data_dir)
    pki = _certify(instance, node_name(settings))
    kept = store.open_file(instance.store_file, check=documents.looks_whole)
    config = apiserver.ApiConfig(
        service_cidr=instance.service_cidr,
        pod_cidr=instance.pod_cidr,
        own_ports=frozenset({instance.ports.api, instance.ports.observe, _DNS_PORT}),
        deny_external_ips=settings.deny_external_ips,
        advertise_address=instance.bridge_address,
        advertise_port=instance.ports.api,
        ca_certificate=pki.ca_file.read_text(encoding="ascii"),
        scratch_dir=instance.data_dir,
        connections_max=allowed.known,
        pod_security=pod_security(settings),
    )
    app = apiserver.build(
        config,
        kept,
        clock,
        rng,
        service_account_key=pki.service_account_key_file.read_bytes(),
        node_proxy=_node_proxy(instance),
        rules=validation.rules(unsupported.warnings, podspec.features(settings.knative_features)),
    )
    listen = [server.Listen("127.0.0.1", instance.ports.api)]
    if os.geteuid() == 0:
        listen.append(server.Listen(instance.bridge_address, instance.ports.api, free=True))
    serving = server.ServeConfig(
        listen=tuple(listen),
        certificate_file=pki.server_certificate_file,
        key_file=pki.server_key_file,
        client_ca_file=pki.ca_file,
        strangers_max=allowed.strangers,
    )
    try:
        await server.serve(app, serving, started=lambda _addresses: notify())
    finally:
        kept.close()


def pod_security(settings: Settings) -> policies.Settings:
    """What the settings hold pods to, and whom they let through."""
    enforce, audit, warn = (
        policies.parse_level_version(text)
        for text in (settings.pod_security_enforce, settings.pod_security_audit, settings.pod_security_warn)
    )
    return policies.Settings(
        policies.Policy(enforce, audit, warn),
        exempt_users=frozenset(listed(settings.pod_security_exempt_users)),
        exempt_namespaces=frozenset(listed(settings.pod_security_exempt_namespaces)),
        exempt_runtime_classes=frozenset(listed(settings.pod_security_exempt_runtime_classes)),
    )


def _certify(instance: Instance, node: str) -> Any:
    """Certificates for the server and each part, and kubeconfigs to find it by."""
    import ipaddress

    import msgspec
    import yaml

    from ondol.apiserver import pki as authority

    members = [
        authority.Client("admin", "ondol:admin", ("system:masters",)),
        authority.Client("node", f"system:node:{node}", ("system:nodes",)),
        *(authority.Client(name, f"system:ondol:{name}") for name in _COMPONENTS if name != "node"),
    ]
    service_address = str(ipaddress.ip_network(instance.service_cidr)[1])
    pki = authority.ensure(
        instance.pki_dir,
        clock=SystemClock(),
        names=[socket.gethostname()],
        addresses=[service_address, instance.bridge_address],
        clients=members,
    )
    ca = pki.ca_file.read_bytes()
    places = [("admin", instance.kubeconfig), *((n, instance.component_kubeconfig(n)) for n in _COMPONENTS)]
    for name, place in places:
        document = authority.kubeconfig(instance.api_url, ca, pki.client(name))
        text = yaml.safe_dump(msgspec.to_builtins(document), sort_keys=False).encode()
        authority.write_kubeconfig(place, text)
    return pki


def _node_proxy(instance: Instance) -> Any:
    from ondol.compose.node_proxy import HttpNodeProxy

    return HttpNodeProxy(instance.socket("node"), _node_token(instance))


def _node_token(instance: Instance) -> str:
    """The secret that lets the API server, and nobody else, read from the node agent."""
    import secrets

    file = instance.pki_dir / "node.token"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # `down` may come before a first start
        files.replace(file, secrets.token_urlsafe(32).encode())
    return file.read_text(encoding="ascii")


async def _connected(instance: Instance, component: str) -> Client:
    """A client with the part's own certificate, once the API server answers it."""
    file = instance.component_kubeconfig(component)
    while True:
        if (client := _client(file)) is not None:
            try:
                if (await client.raw("GET", "/readyz")).status == 200:
                    return client
            except (errors.Unavailable, errors.Timeout):
                pass
            await client.aclose()
        await anyio.sleep(_API_POLL_S)


def _client(file: Path) -> Client | None:
    """None for a file that is missing or damaged: the API server writes it anew when it starts."""
    try:
        return clients.from_kubeconfig(file) if file.exists() else None
    except errors.HostError:
        return None


async def _control(instance: Instance, settings: Settings, notify: Notify) -> None:
    from ondol import controllers, mesh, sdk
    from ondol.serverless import wiring
    from ondol.serverless.serving.route import RouteConfig

    client = await _connected(instance, "control")
    await sdk.install_crds(client, [*mesh.crds(), *wiring.crds()])
    manager = sdk.Manager(client, clock=SystemClock(), rng=_jitter(), identity="ondol-control")
    controllers.add_to(
        manager,
        controllers.ControllersConfig(
            root_ca=(instance.pki_dir / "ca.crt").read_text(),
            ports_in_use=lambda: host_ports.in_use() | _kept_ports(instance),
        ),
    )
    mesh.add_to(manager, mesh_config(instance, settings))
    wiring.add_to(
        manager,
        RouteConfig(domain=settings.domain, public_port=instance.ports.ingress),
    )
    await _serve(manager.run, notify)


async def _node(instance: Instance, settings: Settings, notify: Notify) -> None:
    from ondol import node

    client = await _connected(instance, "node")
    config = node_config(instance, settings)
    try:
        await _serve(partial(node.run, config, client, SystemClock()), notify)
    except* OSError as group:
        error = _first(group)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise errors.HostError(
                f"port 53 of {config.host_ip} is in use",
                remedy=f"stop what listens there: ss -lntup src {config.host_ip}",
            ) from error
        raise


async def _gateway(instance: Instance, settings: Settings, notify: Notify) -> None:
    from ondol import sdk
    from ondol.serverless import wiring
    from ondol.serverless.autoscaler.decide import Scaling
    from ondol.serverless.autoscaler.envoy_admin import EnvoyAdmin

    client = await _connected(instance, "gateway")
    manager = sdk.Manager(client, clock=SystemClock(), rng=_jitter(), identity="ondol-gateway")
    config = wiring.GatewayConfig(
        address=instance.bridge_address,
        scaling=Scaling(window_s=round(settings.scale_to_zero_after_s)),
    )
    proxy = EnvoyAdmin(instance.socket("envoy-admin"))
    wiring.add_gateway_to(manager, proxy, config, _jitter())
    try:
        await _serve(manager.run, notify)
    finally:
        await proxy.aclose()


async def _observe(instance: Instance, settings: Settings, notify: Notify) -> None:
    from ondol.observe import server

    _ = settings
    os.nice(_TELEMETRY_NICENESS)  # what is only watching yields the processor to what is watched
    config = server.ObserveConfig(
        instance.data_dir / "observe",
        instance.socket("observe"),
        intake=server.Intake(instance.bridge_address, instance.ports.observe, instance.pod_cidr),
    )
    await _serve(partial(server.run, config, SystemClock()), notify)


def _jitter() -> random.Random:
    """Randomness that spreads retries and load; no secret depends on it."""
    return random.Random()  # noqa: S311


async def _serve(run: Callable[..., Coroutine[Any, Any, None]], notify: Notify) -> None:
    """Run something that tells when it has started."""
    async with anyio.create_task_group() as group:
        await group.start(run)
        notify()


def mesh_config(instance: Instance, settings: Settings) -> Any:
    """Where the mesh finds pods, proxy and telemetry."""
    from ondol.contracts import proxy
    from ondol.mesh.config import MeshConfig

    return MeshConfig(
        netns_dir=instance.run_dir / "netns",
        xds_address=_unix(instance, "xds"),
        admin_address=_unix(instance, "envoy-admin"),
        bootstrap_file=instance.run_dir / "envoy.json",
        observe_address=_unix(instance, "observe"),
        ingress_address=settings.ingress_address,
        ingress_port=instance.ports.ingress,
        kept_ports=frozenset({instance.ports.api, instance.ports.observe, _DNS_PORT}),
        open_ports=host_ports.ranges(settings.ingress_ports),
        trace_sampling_percent=settings.trace_sampling_percent,
        access_log=instance.log_dir / settings.access_log if settings.access_log else None,
        access_log_is_text=settings.access_log_format == "text",
        node_id=f"ondol-{instance.id}",
        mark=proxy.mark(instance.id),
        passthrough_mark=proxy.mark(instance.id, passthrough=True),
    )


def _exec_envoy(instance: Instance, settings: Settings, notify: Notify) -> None:
    from ondol.mesh import process

    _ = notify  # the supervisor asks its admin page instead
    command: list[str] = process.command(mesh_config(instance, settings))
    os.execve(command[0], command, process.ENVIRONMENT)  # noqa: S606 - a fixed command line, no shell


def _kept_ports(instance: Instance) -> frozenset[HostPort]:
    """What nobody else is given: at every address what is known outside, at the bridge what pods use."""
    ports, bridge = instance.ports, instance.bridge_address
    return frozenset(
        {
            HostPort("TCP", "", ports.api),
            HostPort("TCP", "", ports.ingress),
            HostPort("TCP", bridge, ports.observe),
            HostPort("TCP", bridge, _DNS_PORT),
            HostPort("UDP", bridge, _DNS_PORT),
        }
    )


def node_name(settings: Settings) -> str:
    """The name of this machine's Node object; `HostError` for one that no certificate can carry."""
    name = settings.node_name or socket.gethostname().lower()
    if len(name) > _NODE_NAME_MAX:
        raise errors.HostError(
            f"the node's name {name} is longer than {_NODE_NAME_MAX} characters",
            remedy="set a shorter one: node_name in config.toml, or ONDOL_NODE_NAME",
        )
    return name


def node_config(instance: Instance, settings: Settings) -> Any:
    """What the node agent is told; `down` needs it too, to undo what the agent did."""
    from ondol import node

    return node.NodeConfig(
        instance=instance.id,
        name=node_name(settings),
        data_dir=instance.data_dir,
        host_ip=instance.bridge_address,
        pod_cidr=instance.pod_cidr,
        service_cidr=instance.service_cidr,
        run_root=instance.run_dir.parent,
        kept_ports=_kept_ports(instance),
        api_token=_node_token(instance),
        runtime=settings.runtime,
        pod_pids_limit=settings.pod_pids_limit,
        allowed_unsafe_sysctls=listed(settings.allowed_unsafe_sysctls),
        max_pods=settings.max_pods,
        restart_backoff=node.restart_backoff(settings.restart_backoff_max_s),
        drain_s=settings.drain_s,
    )

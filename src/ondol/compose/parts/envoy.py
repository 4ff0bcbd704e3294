"""The part `envoy`: the proxy, an engine that takes the place of its process, and the mesh's settings.

It goes on serving when the platform's code changes. If the proxy itself has, its successor takes over the
listening sockets while both run (Envoy's hot restart), and it ends when its connections had time to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ondol.base import host_ports
from ondol.compose import addresses, lifecycle
from ondol.compose.instance import Instance
from ondol.compose.part import Epoch, Identity, Notify, Part
from ondol.compose.parts import process
from ondol.compose.settings import Settings

_DNS_PORT: Final = 53
"""Of the pods' name server, which knows names of the cluster and those outside."""
_PROBE_TIMEOUT_S: Final = 0.5
_ACCESS_LOG: Final = "access.log"
"""The proxy's lines that Telemetries ask for, unless the setting names another file."""


def part(instance: Instance, settings: Settings) -> Part:
    """It gets its configuration by xDS, so it starts once control serves that."""
    return Part(
        "envoy",
        partial(run, instance, settings),
        needs=("control",),
        probe=_probe(mesh_config(instance, settings)),
        identity=partial(identity, instance, settings),
        check=partial(_check, instance, settings),
        silence_max_s=process.SILENCE_MAX_S,
        address=addresses.ingress_url(settings.ingress_address, instance.ports.ingress),
        idle_memory_mib=72,
    )


def run(instance: Instance, settings: Settings, notify: Notify) -> None:
    """Become Envoy; the supervisor asks its admin page how it is."""
    from ondol.mesh import process as engine

    config = mesh_config(instance, settings)
    command: list[str] = engine.command(config, generation(instance, notify.epoch))
    os.execve(command[0], command, engine.ENVIRONMENT)  # noqa: S606 - a fixed command line, no shell


def generation(instance: Instance, epoch: Epoch) -> Any:
    """How this Envoy finds its predecessor and no other's: by numbers of this instance alone."""
    from ondol.mesh import process as engine

    return engine.Generation(int(instance.id, 16) * lifecycle.BASES + epoch.base, epoch.number)


def forget(instance: Instance, settings: Settings) -> None:
    """Remove what the instance's Envoys, all of which have ended, have shared."""
    from ondol.mesh import process as engine

    first = generation(instance, Epoch()).base_id
    engine.forget(mesh_config(instance, settings), range(first, first + lifecycle.BASES))


def identity(instance: Instance, settings: Settings) -> Identity:
    """What an Envoy started now would be."""
    from ondol.mesh import process as engine

    content, kin = engine.identity(mesh_config(instance, settings))
    return Identity(content, kin)


def _check(instance: Instance, settings: Settings) -> None:
    from ondol.mesh import process as engine

    engine.validate(mesh_config(instance, settings))


def _probe(config: Any) -> Callable[[int], bool]:
    def is_ready(pid: int) -> bool:
        from ondol.mesh import process as engine

        return engine.ready(config, timeout_s=_PROBE_TIMEOUT_S, pid=pid)

    return is_ready


def mesh_config(instance: Instance, settings: Settings) -> Any:
    """The mesh's `MeshConfig`: where it finds pods, proxy and telemetry."""
    from ondol.contracts import proxy
    from ondol.mesh.config import MeshConfig

    return MeshConfig(
        netns_dir=instance.run_dir / "netns",
        xds_address=addresses.unix(instance, "xds"),
        admin_address=addresses.unix(instance, "envoy-admin"),
        bootstrap_file=instance.run_dir / "envoy.json",
        observe_address=addresses.unix(instance, "observe"),
        outbound_dir=instance.outbound_dir,
        ingress_address=settings.ingress_address,
        ingress_port=instance.ports.ingress,
        ingress_tls_port=instance.ports.ingress_tls,
        reserved_ports=addresses.inner_ports(instance) | {instance.ports.ingress_tls},
        open_ports=host_ports.ranges(settings.ingress_ports),
        resolvers=(f"{instance.bridge_address}:{_DNS_PORT}",),
        registry_only=settings.outbound_traffic_policy == "REGISTRY_ONLY",
        trace_sampling_percent=settings.trace_sampling_percent,
        access_log=instance.log_dir / (settings.access_log or _ACCESS_LOG),
        access_log_is_on=bool(settings.access_log),
        access_log_is_text=settings.access_log_format == "text",
        node_id=f"ondol-{instance.id}",
        mark=proxy.mark(instance.id),
        passthrough_mark=proxy.mark(instance.id, passthrough=True),
    )

"""The part `envoy`: the proxy, an engine that takes the place of its process, and the mesh's settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ondol.base import host_ports
from ondol.compose import addresses
from ondol.compose.instance import Instance
from ondol.compose.part import Notify, Part
from ondol.compose.parts import process
from ondol.compose.settings import Settings

_PROBE_TIMEOUT_S: Final = 0.5


def part(instance: Instance, settings: Settings) -> Part:
    """It gets its configuration by xDS, so it starts once control serves that."""
    return Part(
        "envoy",
        partial(run, instance, settings),
        needs=("control",),
        probe=_probe(mesh_config(instance, settings)),
        silence_max_s=process.SILENCE_MAX_S,
        address=addresses.ingress_url(settings.ingress_address, instance.ports.ingress),
        idle_memory_mib=72,
    )


def run(instance: Instance, settings: Settings, notify: Notify) -> None:
    """Become Envoy; the supervisor asks its admin page how it is."""
    from ondol.mesh import process as engine

    _ = notify
    command: list[str] = engine.command(mesh_config(instance, settings))
    os.execve(command[0], command, engine.ENVIRONMENT)  # noqa: S606 - a fixed command line, no shell


def _probe(config: Any) -> Callable[[], bool]:
    def is_ready() -> bool:
        from ondol.mesh import process as engine

        return engine.ready(config, timeout_s=_PROBE_TIMEOUT_S)

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
        ingress_address=settings.ingress_address,
        ingress_port=instance.ports.ingress,
        ingress_tls_port=instance.ports.ingress_tls,
        reserved_ports=frozenset(
            {instance.ports.api, instance.ports.observe, instance.ports.ingress_tls, addresses.DNS_PORT}
        ),
        open_ports=host_ports.ranges(settings.ingress_ports),
        trace_sampling_percent=settings.trace_sampling_percent,
        access_log=instance.log_dir / settings.access_log if settings.access_log else None,
        access_log_is_text=settings.access_log_format == "text",
        node_id=f"ondol-{instance.id}",
        mark=proxy.mark(instance.id),
        passthrough_mark=proxy.mark(instance.id, passthrough=True),
    )

"""The part `control`: every controller, Knative Serving, and the mesh with its xDS server."""

from __future__ import annotations

from functools import partial

from ondol.base import host_ports
from ondol.compose import addresses, serving
from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import envoy, process
from ondol.compose.parts.process import Context
from ondol.compose.settings import Settings


def part(instance: Instance, settings: Settings) -> Part:
    return Part(
        "control",
        process.runner(main, instance, settings),
        silence_max_s=process.SILENCE_MAX_S,
        address=addresses.unix(instance, "xds"),
        idle_memory_mib=58,
    )


async def main(context: Context) -> None:
    from ondol import controllers, mesh, sdk
    from ondol.compose import exposition
    from ondol.eventing import wiring as eventing
    from ondol.mesh import controller  # noqa: F401 - loaded here, while the API server starts
    from ondol.serverless import wiring

    instance, settings = context.instance, context.settings
    client, requests = await process.connected(context, "control")
    crds = [*mesh.crds()]
    crds += wiring.crds() if settings.serverless else []
    crds += eventing.crds() if settings.eventing else []
    await sdk.install_crds(client, crds)
    manager = sdk.Manager(client, clock=context.clock, rng=process.jitter(), identity="ondol-control")
    controllers.add_to(
        manager,
        controllers.ControllersConfig(
            root_ca=(instance.pki_dir / "ca.crt").read_text(),
            ports_in_use=lambda: host_ports.in_use() | addresses.reserved_ports(instance),
        ),
    )
    pushes = mesh.add_to(manager, envoy.mesh_config(instance, settings))
    if settings.serverless:
        await wiring.install(client)
        wiring.add_to(manager, serving.base(instance, settings))
    if settings.eventing:
        ports = instance.ports
        demand = partial(context.notify.wake, "events")
        plane = eventing.EventingConfig(
            instance.bridge_address,
            ports.events,
            demand,
            tls_port=ports.events_tls,
            ca_certs=(instance.pki_dir / "ca.crt").read_text(),
        )
        eventing.add_to(manager, plane)
    async with exposition.exposed(instance, "control", manager.metrics, requests.collect, pushes):
        await process.serve(manager.run, context.notify)

"""The part `events`: takes events in and delivers them. It starts with the first Broker or Channel."""

from __future__ import annotations

from ondol.compose import addresses, credentials
from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import process
from ondol.compose.parts.process import Context
from ondol.compose.settings import Settings


def part(instance: Instance, settings: Settings) -> Part:
    return Part(
        "events",
        process.runner(main, instance, settings),
        needs=("nats",),
        on_demand=True,
        silence_max_s=process.SILENCE_MAX_S,
        address=f"http://{instance.bridge_address}:{instance.ports.events}",
        idle_memory_mib=35,
    )


async def main(context: Context) -> None:
    from ondol import sdk
    from ondol.base.addresses import is_special
    from ondol.compose import exposition
    from ondol.compose.parts import nats
    from ondol.eventing import beside, engine
    from ondol.eventing.kafka import loading
    from ondol.eventing.plane import front, wiring
    from ondol.eventing.plane.outgoing import Outgoing

    instance, settings = context.instance, context.settings
    client, requests = await process.connected(context, "events")
    manager = sdk.Manager(client, clock=context.clock, rng=process.jitter(), identity="ondol-events")
    journal = nats.engine_config(instance, settings)
    authority = (instance.pki_dir / "ca.crt").read_text(encoding="ascii")
    config = wiring.PlaneConfig(
        address=instance.bridge_address,
        port=instance.ports.events,
        tls=front.Certified(instance.ports.events_tls, *credentials.events_certificate(instance), authority),
        journal=engine.address(journal),
        journal_dir=journal.data_dir,
        outbound=instance.outbound_dir,
        observe=instance.socket("observe"),
        name_server=(instance.bridge_address, addresses.DNS_PORT),
        may_dial=lambda address: not is_special(address),
        sampling_percent=settings.trace_sampling_percent,
    )
    plane = wiring.add_plane_to(manager, config, process.jitter(), context.notify.listeners)
    kafka = loading.Loader(plane.dial, context.clock)
    others = beside.add_to(manager, Outgoing(plane.sender), plane.guard, kafka)
    for name, application in others.services.items():
        plane.mount(name, application)
    plane.mount_others(others.transforms)
    collectors = (manager.metrics, requests.collect, plane.metrics, others.outbox.metrics)
    try:
        async with exposition.exposed(instance, "events", *collectors):
            process.settle()
            await process.serve(manager.run, context.notify)
    finally:
        await others.evaluator.aclose()

"""The part `gateway`: the activator that holds requests for services at zero, and the autoscaler.

Its listening sockets are kept by the supervisor. One that is succeeded answers what it has taken, and ends.
"""

from __future__ import annotations

from ondol.compose import serving
from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import process
from ondol.compose.parts.process import Context
from ondol.compose.settings import Settings
from ondol.contracts.mesh import PROBES_FROM


def part(instance: Instance, settings: Settings) -> Part:
    return Part(
        "gateway",
        process.runner(main, instance, settings),
        silence_max_s=process.SILENCE_MAX_S,
        overlaps=True,
        address=instance.bridge_address,
        idle_memory_mib=26,
    )


async def main(context: Context) -> None:
    from ondol import sdk
    from ondol.compose import exposition
    from ondol.serverless import wiring
    from ondol.serverless.autoscaler.envoy_admin import EnvoyAdmin

    instance, settings = context.instance, context.settings
    client, requests = await process.connected(context, "gateway")
    manager = sdk.Manager(client, clock=context.clock, rng=process.jitter(), identity="ondol-gateway")
    config = wiring.GatewayConfig(
        address=instance.bridge_address,
        base=serving.base(instance, settings),
        asks_from=PROBES_FROM,
        traces=instance.socket("observe"),
    )
    proxy = EnvoyAdmin(instance.socket("envoy-admin"))
    gateway = wiring.add_gateway_to(manager, proxy, config, process.jitter(), context.notify.listeners)

    async def retire() -> None:
        await context.succeeded.wait()
        await gateway.retire()
        manager.stop()

    manager.add_runnable(retire, "retirement")
    try:
        async with exposition.exposed(
            instance, "gateway", manager.metrics, requests.collect, gateway.metrics
        ):
            await process.serve(manager.run, context.notify)
    finally:
        await proxy.aclose()

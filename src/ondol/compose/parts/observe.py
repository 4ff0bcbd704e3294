"""The part `observe`: takes spans in and answers queries of traces."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import process
from ondol.compose.parts.process import Context
from ondol.compose.settings import Settings

_NICENESS: Final = 10


def part(instance: Instance, settings: Settings) -> Part:
    """Envoy ends before it: the last spans are still taken in."""
    return Part(
        "observe",
        process.runner(main, instance, settings),
        outlives=("envoy",),
        silence_max_s=process.SILENCE_MAX_S,
        address=instance.spans_url,
        idle_memory_mib=24,
    )


async def main(context: Context) -> None:
    from ondol.compose import exposition
    from ondol.observe import server

    instance, settings = context.instance, context.settings
    os.nice(_NICENESS)  # what is only watching yields the processor to what is watched
    config = server.ObserveConfig(
        instance.data_dir / "observe",
        instance.socket("observe"),
        intake=server.Intake(instance.bridge_address, instance.ports.observe, instance.pod_cidr),
        expositions=exposition.expositions(instance, settings),
    )
    await process.serve(partial(server.run, config, context.clock), context.notify)

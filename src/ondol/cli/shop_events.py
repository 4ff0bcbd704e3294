"""The demo's events: an order waits in a broker until a function, which rests at zero, has taken it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from ondol.api import objects
from ondol.api import resources as kinds
from ondol.base import errors
from ondol.build.store import ImageStore
from ondol.cli import func_build, terminal, traces
from ondol.cli.demo_steps import NAMESPACE, fetch, is_ready, until
from ondol.client import Client
from ondol.compose import hints, waiting
from ondol.compose.functions import building, folder
from ondol.compose.instance import Instance
from ondol.compose.waiting import Deadline, Stopwatch
from ondol.contracts import eventing, serving

_FUNCTION: Final = "receipts"
_DELIVERY: Final = "ondol-events"
"""As whom the platform delivers events, in traces."""
_TRACE_S: Final = 30.0
_POLL_S: Final = 0.25


async def deploy(client: Client, instance: Instance, examples: Path) -> None:
    """Deploy the function from a copy: what deploying writes into its folder is not the example's."""
    store = ImageStore(instance.data_dir / "images")
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(examples / "shop" / _FUNCTION, Path(place) / _FUNCTION)
        function = folder.load(copy)
        built = await anyio.to_thread.run_sync(building.build, function, store, NAMESPACE)
        await func_build.serve(client, function, built.reference, NAMESPACE)
    await until("its subscription", _is_subscribed, client)


async def _is_subscribed(client: Client) -> bool:
    triggers = (await client.list(eventing.TRIGGER, NAMESPACE)).items
    ready = [await is_ready(client, eventing.TRIGGER, objects.name(trigger)) for trigger in triggers]
    return bool(ready) and all(ready)


async def show(client: Client, instance: Instance) -> None:
    """Place an order while nobody is there to take it, and draw its way."""
    terminal.write(
        "\nEvents: the function receipts rests at zero, an order waits in the broker until it runs"
    )
    await until("receipts at zero", _is_at_zero, client)
    before = await anyio.to_thread.run_sync(_traces, instance)
    watch = Stopwatch()
    status, _ = await anyio.to_thread.run_sync(fetch, instance, "shop.localhost", "/buy/stove")
    if status != 200:
        raise errors.HostError(
            f"the order was answered {status}", remedy=hints.command("status", instance.data_dir)
        )
    terminal.write(f"  the order is placed, and kept on the disk, after {watch.elapsed_s * 1000:.0f} ms")
    summary = await anyio.to_thread.run_sync(_whole, instance, before)
    took_ns = int(summary["maxEndTimeUnixNano"]) - int(summary["minStartTimeUnixNano"])
    terminal.write(
        f"  its receipt is written after {took_ns / 1e6:.0f} ms, the start of the function included:\n"
    )
    document = await anyio.to_thread.run_sync(traces.ask, instance, f"/api/v3/traces/{summary['traceId']}")
    for line in traces.draw(document["result"], width=100):
        terminal.write(f"  {line}")


async def _is_at_zero(client: Client) -> bool:
    selector = f"{serving.SERVICE_LABEL}={_FUNCTION}"
    return not (await client.list(kinds.POD, NAMESPACE, label_selector=selector)).items


def _traces(instance: Instance) -> dict[str, Mapping[str, Any]]:
    """Those that reached a revision of the function and of which no span is missing."""
    listed = traces.summaries(instance, service=_DELIVERY)
    return {
        str(each["traceId"]): each
        for each in listed
        if not int(each["orphanSpanCount"])
        and any(str(service["name"]).startswith(_FUNCTION) for service in each["services"])
    }


def _whole(instance: Instance, before: Collection[str]) -> Mapping[str, Any]:
    """The first that is whole and was not there before."""
    deadline = Deadline(_TRACE_S)
    while not (new := [each for name, each in _traces(instance).items() if name not in before]):
        if deadline.has_passed:
            raise errors.HostError(
                f"no trace of {_FUNCTION} arrived in {_TRACE_S:.0f} s", remedy="see logs/events.log"
            )
        waiting.sleep(_POLL_S)
    return new[0]

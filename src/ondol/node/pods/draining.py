"""The drain: a pod behind a Service goes on answering until the proxies have learned that it ends.

A proxy hears of a pod's end a moment after its node does, and a request under way takes a moment too. A
program that ends at SIGTERM would lose both, so the signal waits, and nobody need write a `preStop` for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ondol.base.clock import Clock
from ondol.node.pods.host import Host
from ondol.node.pods.model import Record

_POLL_S: Final = 0.05


def bound_s(grace_s: float) -> float:
    """How much of the grace period the drain may take: the program has the other half for itself."""
    return max(0.0, grace_s / 2)


async def drain(host: Host, record: Record, grace_s: float, is_hurried: Callable[[], bool]) -> None:
    """Wait for as long as the pod must answer on; not at all if no Service led to it."""
    namespace, address = record.namespace, record.address
    if not address or not host.sources.is_endpoint(namespace, address, leaving=True):
        return
    await drained(
        host.clock,
        is_endpoint=lambda: host.sources.is_endpoint(namespace, address),
        is_hurried=is_hurried,
        linger_s=host.config.drain_s,
        limit_s=bound_s(grace_s),
    )


async def drained(
    clock: Clock,
    *,
    is_endpoint: Callable[[], bool],
    is_hurried: Callable[[], bool],
    linger_s: float,
    limit_s: float,
) -> None:
    """Wait until the pod is no endpoint any more, and `linger_s` longer; at most `limit_s` in all."""
    if linger_s <= 0:
        return
    end_s = clock.monotonic() + limit_s
    while is_endpoint() and clock.monotonic() < end_s and not is_hurried():
        await clock.sleep(_POLL_S)
    end_s = min(end_s, clock.monotonic() + linger_s)
    while (left_s := end_s - clock.monotonic()) > 0 and not is_hurried():
        await clock.sleep(min(_POLL_S, left_s))

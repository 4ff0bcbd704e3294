"""A pod's worker by itself: what it decides where the node cannot help it."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.base.clock import ManualClock
from ondol.node.pods import decide
from ondol.node.pods.model import Record
from ondol.node.pods.worker import PodWorker

POD: Object = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


@pytest.mark.anyio
async def test_a_pod_is_failed_on_a_full_disk_too() -> None:
    """The pod that filled it must go, and nobody else fails with it: the node goes on."""
    events: list[str] = []

    def save(record: Record) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    host: Any = SimpleNamespace(
        boot="b",
        clock=ManualClock(),
        machine=None,
        config=SimpleNamespace(name="here"),
        recorder=SimpleNamespace(event=lambda _pod, _type, reason, *_, **__: events.append(reason)),
        records=SimpleNamespace(save=save),
    )
    worker = PodWorker(host, POD, Record("u", "n", "p", "b", 0.0))
    worker.fail(decide.EVICTED, "too much")
    assert worker.is_over
    assert events == [decide.EVICTED]

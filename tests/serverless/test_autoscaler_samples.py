"""The proxy's counters, read while revisions come and go."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import anyio

from ondol.api.objects import Key
from ondol.sdk.testing import LoopClock, simulate
from ondol.serverless.autoscaler.metrics import Counters
from ondol.serverless.autoscaler.reconciler import PodAutoscalerReconciler
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.values import ServingConfig

HELLO = Key("default", "hello")


def test_a_revision_that_goes_while_the_counters_are_read() -> None:
    """It has nothing to be counted for any more, and all others are counted on."""
    lister = SimpleNamespace(get=lambda _key: None, by_index=lambda *_: [], list=list)
    informer = SimpleNamespace(lister=lister, add_index=lambda *_: None, add_handler=lambda *_: None)
    activator: Any = SimpleNamespace(
        demand=lambda _key: 1, close=lambda _key: None, drop_unclaimed=lambda _keys: None, is_retired=False
    )
    reads: list[int] = []

    async def scene() -> None:
        manager: Any = SimpleNamespace(
            clock=LoopClock(), informer=lambda *_, **__: informer, client=None, recorder=None
        )

        class Proxy:
            async def counters(self) -> Mapping[str, Counters]:
                reads.append(len(reads))
                await reconciler.reconcile(HELLO)  # the autoscaler is gone from the API
                return {}

        proxy: Any = Proxy()
        config = LiveConfig(ServingConfig(), lambda _: None)
        reconciler = PodAutoscalerReconciler(manager, activator, proxy, config)
        for key in (HELLO, Key("default", "other")):
            reconciler._memory(key, {"metadata": {"name": key.name}, "spec": {}}, 0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reconciler.sample)
            await manager.clock.sleep(10.0)
            tasks.cancel_scope.cancel()

    simulate(scene)
    assert len(reads) > 1

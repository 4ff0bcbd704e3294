"""Renews, while the platform runs, the certificate that Eventing shows: its part needs only the files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import anyio
import anyio.to_thread

from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.compose import credentials
from ondol.compose.instance import Instance

EVERY_S: Final = 86_400.0


@contextlib.asynccontextmanager
async def certificates(instance: Instance, clock: Clock) -> AsyncIterator[None]:
    """Look at it once a day inside the block; there are weeks for what does not succeed."""

    async def renew() -> None:
        while True:
            await clock.sleep(EVERY_S)
            try:
                await anyio.to_thread.run_sync(credentials.certify_events, instance, clock)
            except (OSError, errors.OndolError) as error:
                log.get("pki").warning("certificate_not_renewed", error=str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renew)
        yield
        tasks.cancel_scope.cancel()

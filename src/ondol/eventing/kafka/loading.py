"""The Kafka client of a process: loaded once it is needed, since most platforms have no Kafka."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.eventing.kafka.port import Cluster

Load: TypeAlias = Callable[[], Cluster]
"""The client; `Missing` if it is not installed."""

MISSING: Final = (
    "the Kafka client is not installed: pip install 'ondol[kafka]' where the platform is, then restart it"
)


class Missing(errors.OndolError):
    """There is no Kafka client on this machine."""


def missing() -> Cluster:
    """For processes that are to have no client."""
    raise Missing(MISSING)


class Loader:
    """Calls of it all have the same client."""

    def __init__(self, dial: Callable[[str], Awaitable[str]], clock: Clock) -> None:
        self._dial = dial
        self._clock = clock
        self._cluster: Cluster | None = None

    def __call__(self) -> Cluster:
        if self._cluster is None:
            try:
                from ondol.eventing.kafka.client import Kafka  # noqa: PLC0415 - 5 MiB, and an extra
            except ImportError as error:
                raise Missing(MISSING) from error
            self._cluster = Kafka(self._dial, self._clock)
        return self._cluster

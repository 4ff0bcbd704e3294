"""Images brought by a source, in the kubelet's words; several pods that want one wait for one pull."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import anyio

from ondol.base import errors, groups
from ondol.base.clock import Clock

PullSecret: TypeAlias = Mapping[str, bytes]
"""The values of a Secret that holds credentials of registries, by its keys."""
UNAVAILABLE: Final = "RegistryUnavailable"


class ImageSource(Protocol):
    """Brings images into the local store, e.g. from a registry."""

    async def pull(self, reference: str, secrets: Sequence[PullSecret]) -> int:
        """Put the image into the store, or raise `ImageUnavailable`; its size there in bytes.

        Cancelled, it leaves nothing of it behind. `reference` is a pod's word for the image.
        """

    async def remove(self, names: Sequence[str]) -> None:
        """Take these names out of the store, and what of it nothing needs any more. `OndolError`."""


class ImageUnavailable(errors.OndolError):
    """The image cannot be used; `reason` is the container's waiting reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.reference = ""
        """The image's name, where it is not the container's own."""


class NobodyWaits(ImageUnavailable):
    """The pod has ended while its image was brought."""


Event: TypeAlias = Callable[[Literal["Normal", "Warning"], str, str], None]


def _silent(_type: str, _reason: str, _message: str) -> None:
    """Nobody hears of it."""


async def _no_secrets() -> Sequence[PullSecret]:
    return ()


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants an image: what it hears, what it can show to a registry, and when it wants it no more."""

    event: Event = _silent
    secrets: Callable[[], Awaitable[Sequence[PullSecret]]] = _no_secrets
    gone: Callable[[], Awaitable[None]] = anyio.sleep_forever


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pull that went well."""

    size_bytes: int
    seconds: float
    waiting_s: float
    """The same with what was waited for another pull of the image."""


def pulled_message(image: str, pulled: Pulled) -> str:
    """As the kubelet's event has it."""
    took, whole = _duration(pulled.seconds), _duration(pulled.waiting_s)
    size = f"Image size: {pulled.size_bytes} bytes."
    return f'Successfully pulled image "{image}" in {took} ({whole} including waiting). {size}'


def _duration(seconds: float) -> str:
    """As Go writes a duration of whole milliseconds: `53ms`, `1.5s`, `2m0.25s`, `1h0m1s`."""
    ms = int(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + text


class Pulls:
    """Those under way, by the image's name."""

    def __init__(self, source: ImageSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._locks: dict[str, _Turn] = {}

    async def pull(
        self, reference: str, asker: Asker, is_here: Callable[[], Awaitable[int | None]]
    ) -> Pulled:
        """Bring it, or wait for who does; `is_here` answers its size if another has brought it meanwhile.

        `ImageUnavailable` says why it cannot be had.
        """
        asker.event("Normal", "Pulling", f'Pulling image "{reference}"')
        begun = self._clock.monotonic()
        turn = self._locks.setdefault(reference, _Turn(anyio.Lock()))
        turn.waiting += 1
        try:
            is_first = not turn.lock.locked()
            size_bytes: list[int] = []
            began: list[float] = []

            async def bring() -> None:
                async with turn.lock:
                    began.append(self._clock.monotonic())
                    there = None if is_first else await is_here()
                    if there is None:
                        there = await self._source.pull(reference, await asker.secrets())
                    size_bytes.append(there)

            await _unless(asker.gone, bring)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._locks[reference]
        if not size_bytes:
            raise NobodyWaits("ErrImagePull", "the pod has ended")
        ended = self._clock.monotonic()
        return Pulled(size_bytes[0], ended - began[0], ended - begun)


@dataclass(slots=True)
class _Turn:
    lock: anyio.Lock
    waiting: int = 0


async def _unless(ends: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[None]]) -> None:
    """Do the work, and leave it when `ends` returns first."""
    with groups.first(errors.OndolError):
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await ends()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            await work()
            tasks.cancel_scope.cancel()

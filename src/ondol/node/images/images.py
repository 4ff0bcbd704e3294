"""Images for containers: from the local store, through a source that can bring missing ones."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from ondol.base import log
from ondol.base.clock import Clock, SystemClock
from ondol.node.images import collecting
from ondol.node.images.layers import Layers
from ondol.node.images.pulling import UNAVAILABLE, Asker, ImageSource, ImageUnavailable, Pulled, Pulls
from ondol.node.images.store import (
    Image,
    ImageCorrupt,
    ImageMissing,
    ImageStore,
    Stored,
    has_registry,
    is_local,
    malformed,
)
from ondol.node.pressure import image_collection
from ondol.node.pressure.image_collection import Local, Policy

_log = log.get("node.images")
IMAGE_REASONS: Final = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", UNAVAILABLE)
"""Why a container waits for an image that may yet come."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a missing image is reported: waiting reason and message, and events as (reason, message)."""

    reason: str
    message: str
    warnings: tuple[tuple[str, str], ...]
    note: tuple[str, str] | None = None
    """An event that is no warning."""


_EVENT_REASONS: Final = {"InvalidImageName": "InspectFailed", "ErrImageNeverPull": "ErrImageNeverPull"}


def refusal(image: str, error: ImageUnavailable, *, failures: int) -> Refusal:
    """In the kubelet's words; one that is tried for a second time is backed off from."""
    if error.reason not in ("ErrImagePull", UNAVAILABLE):
        event = (_EVENT_REASONS.get(error.reason, "Failed"), str(error))
        return Refusal(error.reason, str(error), (event, ("Failed", f"Error: {error.reason}")))
    if failures <= 1:
        event = ("Failed", f'Failed to pull image "{image}": {error}')
        return Refusal(error.reason, str(error), (event, ("Failed", f"Error: {error.reason}")))
    back_off = f'Back-off pulling image "{image}"'
    message = f"{back_off}: {error.reason}: {error}"
    return Refusal(
        "ImagePullBackOff", message, (("Failed", "Error: ImagePullBackOff"),), ("BackOff", back_off)
    )


@dataclass(frozen=True, slots=True)
class Unpacked:
    image: Image
    layers: tuple[Path, ...]
    pulled: Pulled | None = None
    """How it was brought, if it was."""


class Images:
    def __init__(self, data: Path, source: ImageSource | None = None, clock: Clock | None = None) -> None:
        self._store = ImageStore(data / "images")
        self._layers = Layers(data / "layers", self._store)
        self._source = source
        self._sightings: image_collection.Sightings = {}
        self._pulls = Pulls(source, clock or SystemClock()) if source is not None else None
        self.revision = 0
        """Grows with each change of the store that was heard of."""

    def changed(self) -> None:
        """The store has other images than before."""
        self.revision += 1

    async def has(self, reference: str) -> bool:
        """Whether the store has the image, whole or not."""
        try:
            await anyio.to_thread.run_sync(self._store.resolve, reference)
        except (ImageMissing, ImageCorrupt):
            return False
        return True

    async def ensure(self, reference: str, policy: str, asker: Asker | None = None) -> Unpacked:
        """The image, unpacked; `ImageUnavailable` when it cannot be had under the pull policy.

        `Always` asks for a newer one only if a registry gave the one that is here: what was built or imported
        here is what its name means, and what cannot be asked for is used as it is.
        """
        if reason := malformed(reference):
            message = f'Failed to apply default image tag "{reference}": cannot parse image name: {reason}'
            raise ImageUnavailable("InvalidImageName", message)
        asker = asker or Asker()
        try:
            unpacked = await anyio.to_thread.run_sync(self._local, reference)
        except ImageMissing as missing:
            return await self._bring(reference, policy, missing, asker)
        except ImageCorrupt as error:
            if policy == "Never" or self._pulls is None:
                raise ImageUnavailable("ErrImagePull", str(error)) from error
            return await self._bring(reference, policy, error, asker)
        if policy == "Always" and unpacked.image.is_pulled and self._pulls is not None:
            return await self._renewed(reference, unpacked, self._pulls, asker)
        return unpacked

    async def _renewed(self, reference: str, old: Unpacked, pulls: Pulls, asker: Asker) -> Unpacked:
        try:
            pulled = await pulls.pull(reference, asker, _nowhere)
        except ImageUnavailable as error:
            if error.reason != UNAVAILABLE:
                raise
            words = f'Failed to pull image "{reference}": {error}; the one that is here is used'
            asker.event("Warning", "Failed", words)
            return old
        return await self._after_pull(reference, pulled)

    async def _bring(
        self, reference: str, policy: str, missing: ImageMissing | ImageCorrupt, asker: Asker
    ) -> Unpacked:
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise ImageUnavailable("ErrImageNeverPull", message) from missing
        if self._pulls is None:
            message = f"{missing}, and no registry is configured to pull it from; build or import it first"
            raise ImageUnavailable("ErrImagePull", message) from missing
        if is_local(reference):
            message = f"{missing}; no registry has it, build or import it first"
            raise ImageUnavailable("ErrImagePull", message) from missing
        try:
            pulled = await self._pulls.pull(reference, asker, functools.partial(self._size, reference))
        except ImageUnavailable as error:
            if type(error) is not ImageUnavailable or has_registry(reference):
                raise
            # A name without a registry is as likely a slip in that of an image that was built here.
            message = f"{missing}; nor can it be pulled from Docker Hub: {error}"
            raise ImageUnavailable(error.reason, message) from error
        return await self._after_pull(reference, pulled)

    async def _size(self, reference: str) -> int | None:
        try:
            image = await anyio.to_thread.run_sync(self._store.resolve, reference)
        except (ImageMissing, ImageCorrupt):
            return None
        return sum(layer.size_bytes for layer in image.layers)

    async def _after_pull(self, reference: str, pulled: Pulled) -> Unpacked:
        try:
            unpacked = await anyio.to_thread.run_sync(self._local, reference)
        except (ImageMissing, ImageCorrupt) as error:
            raise ImageUnavailable("ErrImagePull", str(error)) from error
        return dataclasses.replace(unpacked, pulled=pulled)

    async def collect(self) -> list[str]:
        """Remove unpacked layers that no image and no container needs; what went, by digest."""
        return await anyio.to_thread.run_sync(collecting.collect, self._layers.root, self._store)

    async def free(self, used: Collection[str], bytes_: int, policy: Policy, now: float) -> list[Stored]:
        """Remove so much of what a registry gave and nothing uses, the longest unused first; what went.

        `used` are names and ids of images, `now` is seconds of a monotonic clock.
        """
        images, in_use = await anyio.to_thread.run_sync(self._in_use, used)
        by_digest = {image.digest: image for image in images}
        local = [Local(image.digest, image.size_bytes, image.is_pulled) for image in images]
        self._sightings = image_collection.sighted(self._sightings, local, in_use, now)
        if self._source is None or not bytes_:
            return []
        doomed = image_collection.doomed(
            local, self._sightings, in_use, bytes_=bytes_, now=now, policy=policy
        )
        gone = [by_digest[image.digest] for image in doomed]
        if names := [name for image in gone for name in image.names if "@" not in name]:
            _log.info("images_removed", images=names)
            await self._source.remove(names)
            await self.collect()
        return gone

    def _in_use(self, used: Collection[str]) -> tuple[list[Stored], set[str]]:
        """All images that are here, and the digests of those that are used."""
        digests = {reference.rpartition("@")[2] for reference in used if "@" in reference}
        for reference in used:
            with contextlib.suppress(ImageMissing, ImageCorrupt):
                digests.add(self._store.resolve(reference).digest)
        return self._store.stored(), digests

    def _local(self, reference: str) -> Unpacked:
        image = self._store.resolve(reference)
        return Unpacked(image, tuple(self._layers.unpack(layer) for layer in image.layers))


async def _nowhere() -> None:
    """Whoever asks for a newer image does not take the one that is here."""


def environment(config: dict[str, Any]) -> dict[str, str]:
    """The image's `Env` as a mapping."""
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return {name: value for name, _, value in pairs}

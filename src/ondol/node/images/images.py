"""Images for containers: from the local store, through a source that can bring missing ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import anyio.to_thread

from ondol.base import errors
from ondol.node.images import collecting
from ondol.node.images.layers import Layers
from ondol.node.images.store import Image, ImageCorrupt, ImageMissing, ImageStore, malformed


class ImageSource(Protocol):
    """Brings images into the local store, e.g. from a registry."""

    async def pull(self, reference: str) -> None:
        """Put the image into the store, or raise `ImageUnavailable`."""


class ImageUnavailable(errors.OndolError):
    """The image cannot be used; `reason` is the container's waiting reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


IMAGE_REASONS: Final = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
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
    if error.reason != "ErrImagePull":
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
    was_pulled: bool = False


class Images:
    def __init__(self, data: Path, source: ImageSource | None = None) -> None:
        self._store = ImageStore(data / "images")
        self._layers = Layers(data / "layers", self._store)
        self._source = source
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

    async def ensure(self, reference: str, policy: str) -> Unpacked:
        """The image, unpacked; `ImageUnavailable` when it cannot be had under the pull policy."""
        if reason := malformed(reference):
            message = f'Failed to apply default image tag "{reference}": cannot parse image name: {reason}'
            raise ImageUnavailable("InvalidImageName", message)
        was_pulled = False
        try:
            if policy == "Always" and self._source is not None:
                await self._source.pull(reference)
                was_pulled = True
            return await anyio.to_thread.run_sync(self._local, reference, was_pulled)
        except ImageMissing as missing:
            return await self._bring(reference, policy, missing)
        except ImageCorrupt as error:
            raise ImageUnavailable("ErrImagePull", str(error)) from error

    async def _bring(self, reference: str, policy: str, missing: ImageMissing) -> Unpacked:
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise ImageUnavailable("ErrImageNeverPull", message) from missing
        if self._source is None:
            message = f"{missing}, and no registry is configured to pull it from; build or import it first"
            raise ImageUnavailable("ErrImagePull", message) from missing
        await self._source.pull(reference)
        try:
            return await anyio.to_thread.run_sync(self._local, reference, True)
        except (ImageMissing, ImageCorrupt) as error:
            raise ImageUnavailable("ErrImagePull", str(error)) from error

    async def collect(self) -> list[str]:
        """Remove unpacked layers that no image and no container needs; what went, by digest."""
        return await anyio.to_thread.run_sync(collecting.collect, self._layers.root, self._store)

    def _local(self, reference: str, was_pulled: bool) -> Unpacked:
        image = self._store.resolve(reference)
        return Unpacked(image, tuple(self._layers.unpack(layer) for layer in image.layers), was_pulled)


def environment(config: dict[str, Any]) -> dict[str, str]:
    """The image's `Env` as a mapping."""
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return {name: value for name, _, value in pairs}

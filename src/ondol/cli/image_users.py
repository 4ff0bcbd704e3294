"""Which pods of a running platform use an image."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from pathlib import Path
from typing import Final

import anyio

from ondol.api import objects
from ondol.api import resources as kinds
from ondol.api.objects import Object
from ondol.base import errors
from ondol.build.store import Image
from ondol.cli import connection
from ondol.node.images.store import spellings

_FINISHED: Final = ("Succeeded", "Failed")


def pods(image: Image, images: Collection[Image], data_dir: Path | None) -> list[str]:
    """The pods (`namespace/name`) that need it for their next start; none where no platform runs."""
    try:
        found = anyio.run(_pods, data_dir)
    except errors.NotRunning:
        return []
    except errors.OndolError as error:
        raise errors.HostError(
            f"which pods use {image.reference} cannot be told: {error}",
            remedy="ondol status; or remove it all the same with --force",
        ) from error
    return [f"{objects.namespace(pod)}/{objects.name(pod)}" for pod in found if uses(pod, image, images)]


async def _pods(data_dir: Path | None) -> list[Object]:
    async with aclosing(connection.to_platform(data_dir)) as client:
        return (await client.list(kinds.POD)).items


def uses(pod: Object, image: Image, images: Collection[Image]) -> bool:
    """Whether a pod would be given another image, or none, without this one; a finished pod needs none."""
    if objects.status(pod).get("phase") in _FINISHED:
        return False
    spec = objects.spec(pod)
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    left = [other for other in images if other != image]
    named = {str(container.get("image") or "") for container in containers}
    return any(_digest(text, images) != _digest(text, left) for text in named)


def _digest(text: str, images: Collection[Image]) -> str:
    """What the node finds under the name that a container gives; empty if it finds nothing."""
    if wanted := text.partition("@")[2]:
        return wanted if any(image.digest == wanted for image in images) else ""
    named = {image.reference: image.digest for image in images}
    return next((named[spelling] for spelling in spellings(text) if spelling in named), "")

"""What a running platform needs which images for: its pods, and all that holds a template of pods."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import anyio

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.base import errors
from ondol.build.store import Image
from ondol.cli import connection
from ondol.node.images.store import spellings

_CONTAINER_STATUSES: Final = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_NAMING_IMAGES: Final = (
    "Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController",
    "PodTemplate", "Service", "Configuration", "Revision",
)  # fmt: skip
"""`Service` and the last two are Knative's, whose template rests without pods at zero."""


def users(image: Image, images: Collection[Image], data_dir: Path | None) -> list[str]:
    """What needs an image for its next start, as `pod default/web`; nothing where no platform runs."""
    try:
        listed = anyio.run(_all, data_dir)
    except errors.NotRunning:
        return []
    except errors.OndolError as error:
        raise errors.HostError(
            f"the users of {image.reference} cannot be determined: {error}",
            remedy="remove it all the same with --force",
        ) from error
    return [_spelled(item) for item in listed if uses(item, image, images)]


def unused(images: Collection[Image], data_dir: Path | None) -> list[str]:
    """The images, by name, that nothing of a running platform needs or has a container of.

    As the kubelet collects them: an image is in use by every container that exists, also one that has ended.
    `NotRunning` where the platform does not run: what it will start next is not known then.
    """
    listed = anyio.run(_all, data_dir)
    names = {name for item in listed if not _is_finished(item) for name in _image_names(item)}
    in_use = {_digest(name, images) for name in names}
    in_use.update(digest for item in listed for digest in _container_digests(item))
    return sorted(image.reference for image in images if image.digest not in in_use)


async def _all(data_dir: Path | None) -> list[Object]:
    async with aclosing(connection.to_platform(data_dir)) as client:
        served = [resource for resource in await client.discover() if resource.kind in _NAMING_IMAGES]
        pages = [await client.list(resource) for resource in served]
    return [item for page in pages for item in page.items]


def uses(item: Object, image: Image, images: Collection[Image]) -> bool:
    """Whether an object would get another image, or none, without this one; a finished pod needs none."""
    if _is_finished(item):
        return False
    others = [other for other in images if other != image]
    return any(_digest(name, images) != _digest(name, others) for name in set(_image_names(item)))


def _is_finished(item: Object) -> bool:
    return item.get("kind") == "Pod" and pods.is_terminal(item)


def _container_digests(item: Object) -> Iterator[str]:
    """The image of each container that a pod has or had; another may have its name by now."""
    for field in _CONTAINER_STATUSES:
        for status in objects.status(item).get(field) or ():
            yield str(status.get("imageID") or "").partition("@")[2]


def _image_names(value: Any) -> Iterator[str]:
    """The image of every container in a document, wherever a template stands in it."""
    if isinstance(value, Mapping):
        for field, inner in value.items():
            if field in ("containers", "initContainers") and isinstance(inner, list):
                yield from (str(container.get("image") or "") for container in inner)
            elif field != "status":
                yield from _image_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _image_names(inner)


def _digest(text: str, images: Collection[Image]) -> str:
    """What the node finds under the name that a container gives; empty if it finds nothing."""
    if digest := text.partition("@")[2]:
        return digest if any(image.digest == digest for image in images) else ""
    digests = {image.reference: image.digest for image in images}
    return next((digests[spelling] for spelling in spellings(text) if spelling in digests), "")


def _spelled(item: Object) -> str:
    return f"{str(item['kind']).lower()} {objects.namespace(item)}/{objects.name(item)}"

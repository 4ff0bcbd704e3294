"""Volumes that are the files of an image: brought and mounted with the first container that has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from ondol.node import pod_spec
from ondol.node.images import rootfs
from ondol.node.images.pulling import Asker, ImageUnavailable
from ondol.node.pods.engines import Engines
from ondol.node.pods.model import Record, Spec


async def mount(engines: Engines, pod: Spec, record: Record, container: Spec, asker: Asker) -> None:
    """Those that the container has; `ImageUnavailable` with the image's name where one cannot be had."""
    for name, source in pod_spec.image_volumes(pod, container).items():
        if not record.volume(name).is_placed:
            continue
        reference = str(source["reference"])
        try:
            unpacked = await engines.images.ensure(
                reference, source.get("pullPolicy") or "IfNotPresent", asker
            )
        except ImageUnavailable as error:
            error.reference = reference
            raise
        await anyio.to_thread.run_sync(_mount, engines, Path(record.volume(name).folder), unpacked.layers)


def _mount(engines: Engines, folder: Path, layers: Sequence[Path]) -> None:
    """Containers that begin at the same time may have the same volume."""
    with engines.mounting:
        if layers and not folder.is_mount():
            rootfs.mount_read_only(folder, layers)

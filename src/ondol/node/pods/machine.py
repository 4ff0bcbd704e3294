"""What pods take of the machine, as a port: `LinuxMachine` is the real one, simulations have their own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ondol.api.eviction_thresholds import Readings
from ondol.node.images.pulling import Asker, Pulled
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.pods.storage import Usage
from ondol.node.pressure.ranking import Consumption
from ondol.node.volumes.volume import Payload, Place


def container_id(uid: str, name: str, number: int) -> str:
    """The same for the same run of a container: one cut short is met again and not made twice."""
    return hashlib.sha256(f"{uid}/{name}/{number}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Created:
    """A container that waits to be started, and what its owner should hear of."""

    attempt: Attempt
    pulled: Pulled | None = None
    skipped: Sequence[str] = ()
    """Sentences on variables that were left out."""


class Machine(Protocol):
    """Each call does all of its work, or raises and may be made again.

    `OndolError` and `OSError` say why. What a call leaves half done is found and finished, or removed, by the
    next call of the same kind, also one of a later agent.
    """

    async def set_up_sandbox(self, pod: Spec, *, redirect: bool) -> str:
        """Make namespaces, address and rules; the address, empty in the host's network.

        `redirect`: connections go to the mesh's proxy.
        """

    async def guard(self, pod: Spec, *, seals: bool) -> None:
        """Turn to the mesh's proxy what arrives at a redirected pod by TCP; `seals` ends what came before.

        The node's own probes are let past.
        """

    async def tear_down(self, uid: str) -> None:
        """Give back the sandbox, the address and every mount; files stay."""

    async def put_volume(self, pod: Spec, spec: Spec, at: Place, files: Payload, *, is_refresh: bool) -> None:
        """Make one volume of the pod or, for a refresh, bring its files up to date."""

    async def remove_volume(self, uid: str, spec: Spec, folder: Path) -> None:
        """Remove what a volume of a pod that has ended holds on this machine."""

    async def create_container(
        self, pod: Spec, record: Record, name: str, number: int, asker: Asker
    ) -> Created:
        """Image, root file system and container. `ImageUnavailable` when the first cannot be had."""

    def container_ended(self, pod: Spec, name: str, attempt: Attempt) -> None:
        """Keep in mind what a run has used that has ended and is not discarded yet; may be called again."""

    def pod_ended(self, pod: Spec) -> None:
        """Likewise, what a pod has used that is to be torn down."""

    async def resize_container(self, pod: Spec, container: Spec, attempt: Attempt) -> None:
        """Give a container that runs the size that it has in `pod`; an error where it uses more already."""

    async def discard_container(self, container_id: str) -> None:
        """Forget a container that has ended, and its writable layer; nothing when it is not there."""

    def termination_message(self, pod: Spec, container: Spec, attempt: Attempt) -> str:
        """What a container that has ended left to say, from its file or (if asked for) the end of its log."""

    def forget_attempt(self, uid: str, name: str, number: int) -> None:
        """Remove the log and last words of one run, if there was one of that number."""

    async def remove_files(self, uid: str) -> None:
        """The end: nothing on this machine remembers the pod."""

    def has_sandbox(self, uid: str) -> bool:
        """Whether the sandbox that was made for the pod still stands."""

    async def adopt(self, records: Mapping[str, Record], pods: Collection[str]) -> None:
        """Keep what these records name, by uid, and remove all else but what belongs to these pods."""

    async def has_image(self, reference: str) -> bool:
        """Whether the image can be had without anything being brought."""

    @property
    def image_revision(self) -> int:
        """Grows with each change of the images that are here."""

    async def measured(self, pod: Spec, record: Record) -> Usage:
        """What the pod holds of the disk."""

    async def readings(self) -> Readings:
        """What is free of the machine."""

    async def consumed(self, pod: Spec, record: Record, resource: str) -> Consumption:
        """What the pod has of `memory`, `ephemeral-storage`, `inodes` or `pids`."""

    async def free_images(self, used: Collection[str], *, is_urgent: bool) -> None:
        """Remove images where the disk is too full, or all that can go if it is urgent.

        None of these names and ids, none that could not be had again.
        """

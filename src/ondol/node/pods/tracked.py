"""A pod as its worker tracks it: the object, the record, what is on disk of it, and the news of both.

The parts of a worker (steps, running containers, the gate) share one of these and nothing else.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import anyio
import msgspec

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import log
from ondol.base.signal import Signal
from ondol.node import pod_spec
from ondol.node.pods import decide, lifecycle, model, resizing
from ondol.node.pods.host import Host
from ondol.node.pods.model import Record, Spec
from ondol.node.pods.status_writer import StatusWriter
from ondol.node.runtime.port import Exit

_VANISHED_GRACE_S: Final = 1  # as the kubelet gives a pod that was deleted by force


class TrackedPod:
    """Every change of `pod` and `record` goes through here, and is news."""

    def __init__(self, host: Host, pod: Object, record: Record | None) -> None:
        key = objects.key(pod)
        self.host = host
        self.uid = objects.uid(pod)
        self.pod: Object = pod
        begun = record or Record(self.uid, key.namespace, key.name, host.boot, host.clock.now())
        self.record = begun if begun.allocated else resizing.admitted(pod, begun)
        self.log = log.get("node.pod").bind(pod=str(key), uid=self.uid)
        self.statuses = StatusWriter(host, pod)
        self.has_vanished = False
        """The object is gone from the API."""
        self.unhealthy: dict[str, model.Unhealthy] = {}
        self._changed = Signal()
        self._urgent = Signal()
        self._is_unsaved = False

    # The object

    def spec_of(self, name: str) -> Spec:
        return next(c for c in pod_spec.all_containers(self.pod) if c["name"] == name)

    @property
    def allocated(self) -> Spec:
        """The pod in the sizes that the node has taken on."""
        return resizing.allocated(self.pod, self.record.allocated)

    @property
    def is_ending(self) -> bool:
        return self.has_vanished or objects.is_deleting(self.pod)

    @property
    def is_over(self) -> bool:
        """The pod ends or has ended: it takes no more of the node than it still holds."""
        return self.is_ending or bool(decide.outcome(self.pod, self.record))

    @property
    def grace_s(self) -> float:
        return decide.grace_s(self.pod)

    def vanish(self) -> None:
        self.has_vanished = True
        metadata = {**objects.metadata(self.pod), "deletionGracePeriodSeconds": _VANISHED_GRACE_S}
        self.pod = {**self.pod, "metadata": metadata}
        self.retry_now()

    # News

    @property
    def news(self) -> anyio.Event:
        """The next piece of news."""
        return self._changed.next

    @property
    def retry(self) -> anyio.Event:
        """The next piece of news that no step waits over for its next try."""
        return self._urgent.next

    def touch(self) -> None:
        self._changed.set()
        self.statuses.changed()

    def retry_now(self) -> None:
        """Look again, and try every step that waits for its next try."""
        self._urgent.set()
        self.touch()

    def event(
        self, type: Literal["Normal", "Warning"], reason: str, message: str, container: str = ""
    ) -> None:
        part = model.field_path(self.pod, container) if container else ""
        host = self.host.config.name
        recorder = self.host.recorder
        recorder.event(self.pod, type, reason, message, component="kubelet", part=part, host=host)

    # The record

    def keep(self, record: Record) -> None:
        """This is what is so now. It is on disk too when this returns, if the disk has room for it."""
        self.record = record
        self.save()
        self.touch()

    def keep_container(self, name: str, **changes: Any) -> None:
        self.keep(lifecycle.replaced(self.record, name, **changes))

    def save(self) -> None:
        """Write the unsaved record to disk; a full disk is logged once, and the write tried again later."""
        try:
            self.host.records.save(self.record)
        except OSError as error:
            if not self._is_unsaved:
                self.log.warning("record_not_saved", error=str(error))
            self._is_unsaved = True
        else:
            self._is_unsaved = False

    def save_again(self) -> None:
        if self._is_unsaved:
            self.save()

    def ensure_saved(self) -> None:
        """`OSError` unless all that is so is on disk: nothing new may be built on what could be forgotten."""
        if self._is_unsaved:
            self.host.records.save(self.record)
            self._is_unsaved = False

    # What several parts do

    def fail(self, reason: str, message: str) -> None:
        self.event("Warning", reason, message)
        self.keep(lifecycle.failed(self.record, reason, message))

    def keep_exit(self, name: str, record: Record) -> None:
        """A container has ended: the record says how, and whether it is backed off from.

        Only who is to run again is told to be: not what ended for good, and nothing of a pod that ends.
        """
        self.unhealthy.pop(name, None)
        container = record.container(name)
        runs_again = (
            not self.is_ending
            and not record.failed_reason
            and lifecycle.should_restart(self.pod, self.spec_of(name), container)
        )
        if runs_again and container.retry_at > self.host.clock.now():
            who = f"{self.record.name}_{self.record.namespace}({self.uid})"
            self.event(
                "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {who}", name
            )
        self.keep(record)

    def exited(self, name: str, ended: Exit, message: str) -> None:
        backoff = self.host.config.restart_backoff
        self.keep_exit(name, lifecycle.exited(self.record, name, ended, message=message, backoff=backoff))

    def torn_down(self) -> None:
        self.keep(msgspec.structs.replace(self.record, has_sandbox=False))

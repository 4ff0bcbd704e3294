"""What the node knows of a pod, as values: kept on disk, replaced whole, read by pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from ondol.api import objects
from ondol.node import pod_spec
from ondol.node.runtime.port import Exit, Handle

Spec = Mapping[str, Any]
Allocation: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""Requests and limits of containers, by their names."""


class Attempt(msgspec.Struct, frozen=True):
    """One run of a container. Created once there is a handle, started once `started_at` is set."""

    number: int
    id: str
    image: str
    image_id: str
    handle: Handle | None = None
    started_at: float = 0.0
    exit: Exit | None = None
    reason: str = ""
    message: str = ""
    stop_signal: str = "SIGTERM"
    resources: dict[str, dict[str, Any]] | None = None
    """The requests and limits that it runs with; None of one that was not told."""
    must_restart: bool = False
    """It was stopped so that another run takes its place, whatever the restart policy says."""

    @property
    def is_created(self) -> bool:
        return self.handle is not None and not self.started_at and self.exit is None

    @property
    def is_running(self) -> bool:
        return self.handle is not None and self.started_at > 0 and self.exit is None


class Container(msgspec.Struct, frozen=True):
    """A container's runs and what probes found; `failures` and `retry_at` are its back-off."""

    current: Attempt | None = None
    last: Attempt | None = None
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    waiting_reason: str = ""
    waiting_message: str = ""
    is_started: bool = False
    is_ready: bool = False
    tried_image: str = ""
    """The image that `failures` and `retry_at` are about."""

    @property
    def is_running(self) -> bool:
        return self.current is not None and self.current.is_running

    @property
    def has_begun(self) -> bool:
        """Whether a run of it has begun in the pod's present sandbox."""
        if self.current is None:
            return False
        return self.last is not None or self.current.started_at > 0 or self.current.exit is not None

    @property
    def next_number(self) -> int:
        """Of the run that comes next: no two have the same."""
        return 1 + max((each.number for each in (self.current, self.last) if each is not None), default=-1)

    def succeeded_by(self, attempt: Attempt, failures: int) -> dict[str, Any]:
        """The fields that a new attempt changes: it becomes current, the former one the last."""
        return {
            "current": attempt,
            "last": self.current or self.last,
            "restarts": attempt.number,
            "tried_image": attempt.image,
            "failures": failures,
            "retry_at": 0.0,
            "waiting_reason": "",
            "waiting_message": "",
            "is_started": False,
            "is_ready": False,
        }

    @property
    def has_exited(self) -> bool:
        return self.current is not None and self.current.exit is not None

    @property
    def has_succeeded(self) -> bool:
        return self.current is not None and self.current.exit is not None and self.current.exit.code == 0


class Volume(msgspec.Struct, frozen=True):
    """A volume that was begun: all it takes to remove it, also where the pod is known no more."""

    spec: dict[str, Any] = {}
    folder: str = ""
    """What containers mount."""
    is_placed: bool = False


class Resize(msgspec.Struct, frozen=True):
    """A change of size that waits, or is being made."""

    generation: int
    """The pod's, when it asked for it."""
    reason: str = ""
    message: str = ""
    failures: int = 0
    retry_at: float = 0.0


class Record(msgspec.Struct, frozen=True):
    """All of a pod that must outlive the agent."""

    uid: str
    namespace: str
    name: str
    boot: str
    start_time: float
    address: str = ""
    has_sandbox: bool = False
    containers: dict[str, Container] = {}
    failed_reason: str = ""
    failed_message: str = ""
    volumes: dict[str, Volume] = {}
    """Those that were begun, by name, until they are removed."""
    allocated: Allocation = {}
    """What the node has taken on of what the pod asks for."""
    resize_pending: Resize | None = None
    """The node has no room for what the pod asks for."""
    resize_progress: Resize | None = None
    """Containers that run are yet to get what is allocated."""
    runtime: str = ""
    """What runs its containers, as its RuntimeClass says; empty is the node's own runtime."""
    guarded_at: float | None = None
    """Since when what arrives in this sandbox is turned to the proxy."""
    is_sealed: bool = False
    """Connections that arrived before that have been ended."""

    def volume(self, name: str) -> Volume:
        return self.volumes.get(name) or Volume()

    def container(self, name: str) -> Container:
        return self.containers.get(name) or Container()

    def with_container(self, name: str, container: Container) -> Record:
        return msgspec.structs.replace(self, containers={**self.containers, name: container})

    @property
    def is_any_running(self) -> bool:
        return any(
            c.current is not None and (c.is_running or c.current.is_created) for c in self.containers.values()
        )


class PodStep(Enum):
    """A step of the pod as a whole. No string: containers may have any of these names."""

    SANDBOX = "sandbox"
    VOLUMES = "volumes"
    REFRESH = "refresh"
    GUARD = "guard"
    TEARDOWN = "teardown"
    FINISH = "finish"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class ContainerStep:
    """A step of one container: it is created, started or stopped, or one of its runs is noted."""

    container: str
    part: str = "container"

    def __str__(self) -> str:
        return f"{self.part} {self.container}"


Step: TypeAlias = PodStep | ContainerStep


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A running container whose startup or liveness probe has failed for good."""

    why: str
    grace_s: float | None = None
    """The probe's own `terminationGracePeriodSeconds`; None is the pod's."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true around the pod now, besides its record."""

    now: float
    is_deleting: bool = False
    are_volumes_ready: bool = False
    is_gate_open: bool = True
    is_proxy_gone: bool = True
    """No proxy still listens in a sandbox the pod had before."""
    is_guard_asked: bool = False
    """The proxy listens for what arrives at the pod."""
    busy: frozenset[Step] = frozenset()
    """The steps that run or wait for their next try."""
    are_volumes_stale: bool = False
    """Something that volumes show has changed since their content was written."""
    unhealthy: Mapping[str, Unhealthy] = field(default_factory=dict)
    """The running containers that are to be restarted, by name."""


def field_path(pod: Spec, name: str) -> str:
    """Where a container stands in its pod, as events name it."""
    if pod_spec.is_ephemeral(pod, name):
        return f"spec.ephemeralContainers{{{name}}}"
    is_init = any(container["name"] == name for container in pod_spec.init_containers(pod))
    return f"spec.{'initContainers' if is_init else 'containers'}{{{name}}}"


def is_sidecar(container: Spec) -> bool:
    """An init container that stays: `restartPolicy: Always`."""
    return container.get("restartPolicy") == "Always"


def restart_policy(pod: Spec) -> str:
    return str(objects.spec(pod).get("restartPolicy") or "Always")


def rebooted(record: Record, boot: str, now: float) -> Record:
    """The record after the machine started anew: sandbox and mounts gone, every running container lost."""
    lost = {name: _lost(container, now) for name, container in record.containers.items()}
    volumes = {
        name: msgspec.structs.replace(volume, is_placed=False) for name, volume in record.volumes.items()
    }
    return msgspec.structs.replace(record, boot=boot, has_sandbox=False, containers=lost, volumes=volumes)


def _lost(container: Container, now: float) -> Container:
    attempt = container.current
    if attempt is None or attempt.exit is not None:
        return container
    ended = msgspec.structs.replace(
        attempt,
        exit=Exit(137, oom_killed=False, finished_at=now),
        reason="ContainerStatusUnknown",
        message="The container could not be located: the machine was restarted",
    )
    return msgspec.structs.replace(container, current=ended, is_ready=False, is_started=False)

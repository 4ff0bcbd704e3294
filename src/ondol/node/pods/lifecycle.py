"""What happens to a pod, as functions from its record to the next one. Pure: nothing here waits or writes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from ondol.base.backoff import Backoff
from ondol.node import pod_spec
from ondol.node.images.images import IMAGE_REASONS
from ondol.node.pods import model
from ondol.node.pods.model import Attempt, Container, Record, Spec, Volume
from ondol.node.runtime.port import Exit

CLEAN_RUN_S: Final = 600.0
"""A run so long forgives the failures before it."""
START_ERROR: Final = 128
"""The exit code of a container that could not be started."""


def replaced(record: Record, name: str, **changes: Any) -> Record:
    """The record with these fields of one container changed."""
    return record.with_container(name, msgspec.structs.replace(record.container(name), **changes))


def placed(pod: Spec, record: Record, address: str, *, runtime: str = "") -> Record:
    """A new sandbox is there: what is to run runs from the beginning, init containers too.

    They may have filled what is gone with the machine's last run: memory, the network. Source: the kubelet's
    `computePodActions`.
    """
    renewed = dict(record.containers)
    for spec in pod_spec.all_containers(pod):
        container = record.container(spec["name"])
        is_init = spec in pod_spec.init_containers(pod) and not model.is_sidecar(spec)
        if container.has_exited and (is_init or should_restart(pod, spec, container)):
            renewed[str(spec["name"])] = msgspec.structs.replace(
                container, current=None, last=container.current, is_started=False, is_ready=False
            )
    return msgspec.structs.replace(
        record,
        containers=renewed,
        address=address,
        has_sandbox=True,
        runtime=runtime,
        guarded_at=None,
        is_sealed=False,
    )


def guarded(record: Record, now: float, *, seals: bool) -> Record:
    """What arrives is turned to the proxy, and what had arrived before has ended if it `seals`."""
    since = now if record.guarded_at is None else record.guarded_at
    return msgspec.structs.replace(record, guarded_at=since, is_sealed=seals)


def should_restart(pod: Spec, spec: Spec, container: Container) -> bool:
    """Whether a container that ended runs again; an ephemeral one never does.

    By the first of its rules that its exit code matches, else by its own restart policy, else by the pod's.
    """
    if pod_spec.is_ephemeral(pod, spec["name"]):
        return False
    if container.current is not None and container.current.must_restart:
        return True
    if model.is_sidecar(spec):
        return True
    if has_restart_rule(spec, container):
        return True
    policy = spec.get("restartPolicy") or model.restart_policy(pod)
    is_init = any(spec["name"] == init["name"] for init in pod_spec.init_containers(pod))
    if container.has_succeeded:
        return policy == "Always" and not is_init
    return policy != "Never"


def has_restart_rule(spec: Spec, container: Container) -> bool:
    """Whether a rule of the container restarts it after the exit code it ended with."""
    ended = container.current.exit if container.current is not None else None
    if ended is None or not spec.get("restartPolicy"):
        return False
    for rule in spec.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        is_listed = ended.code in (codes.get("values") or ())
        if is_listed == (codes.get("operator") == "In"):
            return bool(rule.get("action") == "Restart")
    return False


def afresh(spec: Spec, container: Container) -> Container:
    """The container as it stands for its image: the back-off was from another one if that was changed."""
    if container.tried_image in ("", spec.get("image", "")):
        return container
    return msgspec.structs.replace(container, failures=0, retry_at=0.0)


def waiting(record: Record, spec: Spec, reason: str, message: str, *, now: float, backoff: Backoff) -> Record:
    """A container could not be made: it waits, longer each time."""
    name = str(spec["name"])
    failures = afresh(spec, record.container(name)).failures + 1
    return replaced(
        record,
        name,
        waiting_reason=reason,
        waiting_message=message,
        tried_image=spec.get("image", ""),
        failures=failures,
        retry_at=now + backoff.delay_s(failures),
    )


def waits_for_image(record: Record, spec: Spec) -> bool:
    """Whether the container waits for the image that it names now, or for one that is a volume of its."""
    container = record.container(spec["name"])
    is_tried = container.tried_image == spec.get("image", "") and container.retry_at > 0
    return is_tried and container.waiting_reason in IMAGE_REASONS


def image_arrived(pod: Spec, record: Record, images: Collection[str]) -> Record:
    """The containers that wait for one of these images are tried again at once."""
    for spec in pod_spec.all_containers(pod):
        if pod_spec.images(pod, spec) & set(images) and waits_for_image(record, spec):
            record = replaced(record, str(spec["name"]), retry_at=0.0)
    return record


def created(record: Record, spec: Spec, attempt: Attempt) -> Record:
    """A new run is there and waits to be started; the former one becomes the last.

    Failures to make it are over; failures of its runs count on.
    """
    name = str(spec["name"])
    before = afresh(spec, record.container(name))
    failures = 0 if before.waiting_reason else before.failures
    return replaced(record, name, **record.container(name).succeeded_by(attempt, failures))


def started(record: Record, spec: Spec, now: float) -> Record:
    """It runs. It has started up unless something is yet to say so: a probe or a hook."""
    container = record.container(spec["name"])
    if container.current is None:
        return record
    is_started = not spec.get("startupProbe") and not (spec.get("lifecycle") or {}).get("postStart")
    attempt = msgspec.structs.replace(container.current, started_at=now)
    return replaced(record, str(spec["name"]), current=attempt, is_started=is_started)


def not_created(
    record: Record, spec: Spec, attempt: Attempt, message: str, *, now: float, backoff: Backoff
) -> Record:
    """The runtime would not make it: a run that ended before it began."""
    name = str(spec["name"])
    failed = msgspec.structs.replace(attempt, reason="StartError", message=message)
    failures = record.container(name).failures
    rotated = replaced(record, name, **record.container(name).succeeded_by(failed, failures))
    return exited(rotated, name, start_error(now), message="", backoff=backoff)


def not_started(record: Record, name: str, message: str, *, now: float, backoff: Backoff) -> Record:
    """The runtime would not start it: the same, of a run that is already there."""
    current = record.container(name).current
    if current is None:
        return record
    failed = msgspec.structs.replace(current, reason="StartError", message=message)
    return exited(replaced(record, name, current=failed), name, start_error(now), message="", backoff=backoff)


def start_error(now: float) -> Exit:
    return Exit(START_ERROR, oom_killed=False, finished_at=now)


def exited(record: Record, name: str, ended: Exit, *, message: str, backoff: Backoff) -> Record:
    """It has ended: with its reason, and when it may run again (at once after a first failure)."""
    container = record.container(name)
    attempt = container.current
    if attempt is None:
        return record
    reason = "OOMKilled" if ended.oom_killed else "Completed" if ended.code == 0 else "Error"
    over = msgspec.structs.replace(
        attempt, exit=ended, reason=attempt.reason or reason, message=message or attempt.message
    )
    was_clean = attempt.started_at > 0 and ended.finished_at - attempt.started_at >= CLEAN_RUN_S
    failures = 1 if was_clean else container.failures + 1
    wait_s = backoff.delay_s(failures - 1) if failures > 1 else 0.0
    return replaced(
        record,
        name,
        current=over,
        failures=failures,
        retry_at=ended.finished_at + wait_s if wait_s else 0.0,
        is_ready=False,
        is_started=False,
        waiting_reason="",
        waiting_message="",
    )


def volume_begun(record: Record, spec: Spec, folder: str) -> Record:
    """Something may be made of it from here on."""
    volumes = {**record.volumes, str(spec["name"]): Volume(dict(spec), folder)}
    return msgspec.structs.replace(record, volumes=volumes)


def volume_placed(record: Record, name: str) -> Record:
    placed = msgspec.structs.replace(record.volume(name), is_placed=True)
    return msgspec.structs.replace(record, volumes={**record.volumes, name: placed})


def volume_removed(record: Record, name: str) -> Record:
    """Nothing of it is left."""
    volumes = {each: volume for each, volume in record.volumes.items() if each != name}
    return msgspec.structs.replace(record, volumes=volumes)


def failed(record: Record, reason: str, message: str) -> Record:
    """The pod as a whole has failed."""
    return msgspec.structs.replace(record, failed_reason=reason, failed_message=message)

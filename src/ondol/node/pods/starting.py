"""The steps that make a container and start it, and what becomes of it when one fails."""

from __future__ import annotations

import dataclasses
import functools

import msgspec

from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.node import pod_spec, value_sources
from ondol.node.images import images
from ondol.node.images.pulling import Asker, ImageUnavailable, NobodyWaits, pulled_message
from ondol.node.pods import lifecycle, steps
from ondol.node.pods.machine import Created, container_id
from ondol.node.pods.model import Attempt, Spec
from ondol.node.pods.running import RunningContainers
from ondol.node.pods.tracked import TrackedPod
from ondol.node.runtime.port import RuntimeFailed
from ondol.node.volumes.volume import VolumeFailed


class Starting:
    def __init__(self, tracked: TrackedPod, running: RunningContainers) -> None:
        self._tracked = tracked
        self._running = running

    async def create(self, name: str) -> None:
        tracked, machine = self._tracked, self._tracked.host.machine
        tracked.ensure_saved()
        spec = tracked.spec_of(name)
        number = lifecycle.afresh(spec, tracked.record.container(name)).next_number
        revision = machine.image_revision
        try:
            allocation = tracked.record.allocated.get(name)
            created = await machine.create_container(
                tracked.allocated, tracked.record, name, number, self._asker(name)
            )
        except NobodyWaits:
            return
        except ImageUnavailable as error:
            await self._image_unavailable(spec, error, revision)
        except (value_sources.ConfigMissing, VolumeFailed, errors.Invalid) as error:
            await machine.discard_container(container_id(tracked.uid, name, number))
            self._config_failed(spec, str(error))
        except (RuntimeFailed, errors.HostError, OSError) as error:
            await self._not_created(spec, number, str(error))
        else:
            attempt = msgspec.structs.replace(created.attempt, resources=allocation)
            self._created(spec, dataclasses.replace(created, attempt=attempt))

    def _asker(self, name: str) -> Asker:
        """The container, as who brings its image knows it."""
        tracked = self._tracked

        async def gone() -> None:
            while True:
                news = tracked.news
                if tracked.is_over:
                    return
                await news.wait()

        return Asker(functools.partial(tracked.event, container=name), gone=gone)

    def _created(self, spec: Spec, created: Created) -> None:
        tracked, name = self._tracked, str(spec["name"])
        image = created.attempt.image
        message = (
            pulled_message(image, created.pulled)
            if created.pulled is not None
            else f'Container image "{image}" already present on machine'
        )
        tracked.event("Normal", "Pulled", message, name)
        for sentence in created.skipped:
            tracked.event("Warning", "InvalidEnvironmentVariableNames", sentence, name)
        tracked.event("Normal", "Created", f"Created container: {name}", name)
        tracked.keep(lifecycle.created(tracked.record, spec, created.attempt))
        self._forget_before(name, created.attempt)

    def _forget_before(self, name: str, attempt: Attempt) -> None:
        """The logs of the current run and of the last one stay."""
        self._tracked.host.machine.forget_attempt(self._tracked.uid, name, attempt.number - 2)

    async def _image_unavailable(self, spec: Spec, error: ImageUnavailable, revision: int) -> None:
        tracked, name = self._tracked, str(spec["name"])
        failures = lifecycle.afresh(spec, tracked.record.container(name)).failures + 1
        reference = error.reference or spec["image"]
        refusal = images.refusal(reference, error, failures=failures)
        if refusal.note is not None:
            tracked.event("Normal", *refusal.note, name)
        for reason, message in refusal.warnings:
            tracked.event("Warning", reason, message, name)
        self._wait(spec, refusal.reason, refusal.message, tracked.host.config.image_backoff)
        # It may have come while it was looked for: whoever was told of it then did not see this one wait.
        machine = tracked.host.machine
        if machine.image_revision != revision and await machine.has_image(reference):
            tracked.keep(lifecycle.image_arrived(tracked.pod, tracked.record, {reference}))

    def _config_failed(self, spec: Spec, message: str) -> None:
        self._tracked.event("Warning", "Failed", f"Error: {message}", str(spec["name"]))
        self._wait(spec, "CreateContainerConfigError", message, steps.BACKOFF)

    def _wait(self, spec: Spec, reason: str, message: str, backoff: Backoff) -> None:
        tracked = self._tracked
        now = tracked.host.clock.now()
        tracked.keep(lifecycle.waiting(tracked.record, spec, reason, message, now=now, backoff=backoff))

    async def _not_created(self, spec: Spec, number: int, message: str) -> None:
        tracked, name = self._tracked, str(spec["name"])
        tracked.event("Warning", "Failed", f"Error: {message}", name)
        identity = container_id(tracked.uid, name, number)
        await tracked.host.machine.discard_container(identity)
        attempt = Attempt(number, identity, spec["image"], "")
        now, backoff = tracked.host.clock.now(), tracked.host.config.restart_backoff
        tracked.keep_exit(
            name, lifecycle.not_created(tracked.record, spec, attempt, message, now=now, backoff=backoff)
        )
        self._forget_before(name, attempt)

    async def start(self, name: str) -> None:
        tracked = self._tracked
        tracked.ensure_saved()
        attempt = tracked.record.container(name).current
        if attempt is None or attempt.handle is None:
            return
        try:
            await tracked.host.runtime.start(attempt.handle)
        except RuntimeFailed as error:
            await self._not_started(name, attempt, str(error))
            return
        tracked.keep(lifecycle.started(tracked.record, tracked.spec_of(name), tracked.host.clock.now()))
        self._count_start(name)
        tracked.event("Normal", "Started", f"Started container {name}", name)
        tracked.log.info("container_started", container=name, attempt=attempt.number)
        if current := tracked.record.container(name).current:
            self._running.follow(name, current)

    def _count_start(self, name: str) -> None:
        tracked, activity = self._tracked, self._tracked.host.activity
        apps = [str(spec["name"]) for spec in pod_spec.app_containers(tracked.pod)]
        kind = "container" if name in apps else "init_container"
        if pod_spec.is_ephemeral(tracked.pod, name):
            kind = "ephemeral_container"
        activity.started_containers[(kind,)] += 1
        containers = [tracked.record.container(app) for app in apps]
        is_first = all(each.is_running and not each.restarts for each in containers)
        if kind == "container" and is_first:
            activity.start_s.observe(tracked.host.clock.now() - tracked.record.start_time)

    async def _not_started(self, name: str, attempt: Attempt, message: str) -> None:
        tracked = self._tracked
        tracked.event("Warning", "Failed", f"Error: {message}", name)
        await tracked.host.machine.discard_container(attempt.id)
        now, backoff = tracked.host.clock.now(), tracked.host.config.restart_backoff
        tracked.keep_exit(
            name, lifecycle.not_started(tracked.record, name, message, now=now, backoff=backoff)
        )

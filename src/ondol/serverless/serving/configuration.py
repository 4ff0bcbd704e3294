"""Reconciles Configurations: each new template becomes exactly one Revision."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.base import clock, errors
from ondol.contracts import serving
from ondol.sdk import Controller, Manager, Result
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.serving import documents, verdicts, wellknown
from ondol.serverless.serving.reporting import Reporter
from ondol.serverless.serving.service import owner_key, owner_uid

_BY_CONFIGURATION: Final = "configuration"


class ConfigurationReconciler:
    """Stamps out a Revision for the present generation and reports the newest one that is ready."""

    def __init__(self, manager: Manager, config: LiveConfig) -> None:
        self._manager = manager
        self._config = config
        self._status = Reporter(manager, serving.CONFIGURATION, ())
        self._configurations = manager.informer(serving.CONFIGURATION)
        self._revisions = manager.informer(serving.REVISION)
        self._revisions.add_index(_BY_CONFIGURATION, owner_uid)

    def controller(self) -> Controller:
        controller = Controller("knative-configuration", self.reconcile)
        controller.watch(self._configurations)
        controller.watch(self._revisions, owner_key)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        configuration = self._configurations.lister.get(key)
        if configuration is None or objects.is_deleting(configuration):
            return None
        revision, problem = await self._latest(configuration)
        own = self._revisions.lister.by_index(_BY_CONFIGURATION, str(objects.uid(configuration)))
        now = self._manager.clock.now()
        desired = verdicts.configuration_status(
            configuration, revision, revisions=own, now=now, problem=problem
        )
        await self._status.write(configuration, desired)
        if revision is not None:
            await self._retire([r for r in own if _overtaken(r, revision)])
        return None

    async def _retire(self, overtaken: list[Object]) -> None:
        """No Route will follow these any more: they need not keep the replicas of a newest one.

        A Route that names one makes it active again; the version in the patch is there so that one
        that has just done so is not undone.
        """
        for revision in overtaken:
            meta = {
                "resourceVersion": objects.resource_version(revision),
                "labels": {wellknown.ROUTING_STATE_LABEL: "reserve"},
                "annotations": {wellknown.ROUTING_STATE_MODIFIED: clock.rfc3339(self._manager.clock.now())},
            }
            with suppress(errors.NotFound, errors.Conflict):  # the next event tells what it is now
                await self._manager.client.patch(
                    serving.REVISION,
                    objects.name(revision),
                    objects.namespace(revision),
                    patch={"metadata": meta},
                )

    async def _latest(self, configuration: Object) -> tuple[Object | None, str]:
        """The Revision of the present generation, made if need be, or why it cannot be made."""
        desired = documents.revision(configuration, self._config().defaults)
        revision = self._revisions.lister.get(objects.key(desired))
        if revision is None:
            revision = await self._create(desired)
        generation = objects.labels(revision).get(wellknown.CONFIGURATION_GENERATION_LABEL)
        is_own = objects.is_controlled_by(revision, configuration)
        if is_own and generation == str(objects.generation(configuration)):
            return revision, ""
        if is_own and objects.spec(revision) == desired["spec"]:
            return revision, ""  # the template of an older generation again
        name = objects.name(desired)
        return None, f'The name "{name}" is taken by another Revision; a changed template needs a new name.'

    async def _create(self, desired: Object) -> Object:
        try:
            return await self._manager.client.create(serving.REVISION, desired)
        except errors.AlreadyExists:
            return await self._manager.client.get(
                serving.REVISION, objects.name(desired), objects.namespace(desired)
            )


def _overtaken(revision: Object, newest: Object) -> bool:
    """Whether a newer one came before any Route pointed here; it got ready all the same."""
    pending = objects.labels(revision).get(wellknown.ROUTING_STATE_LABEL) == "pending"
    older = wellknown.generation_of(revision) < wellknown.generation_of(newest)
    return pending and older and conditions.is_true(revision, verdicts.READY)

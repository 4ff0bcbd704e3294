"""Reconciles Configurations: each new template becomes exactly one Revision."""

from __future__ import annotations

from ondol.api import objects
from ondol.api import resources as kinds
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.sdk import Controller, Manager, Result
from ondol.serverless.serving import metadata as words
from ondol.serverless.serving import resources, status
from ondol.serverless.serving.service import owner_key
from ondol.serverless.serving.writing import write_status


class ConfigurationReconciler:
    """Stamps out a Revision for the present generation and reports the newest one that is ready."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._configurations = manager.informer(kinds.KNATIVE_CONFIGURATION)
        self._revisions = manager.informer(kinds.KNATIVE_REVISION)

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
        wanted = status.configuration(configuration, revision, now=self._manager.clock.now(), problem=problem)
        await write_status(self._manager, kinds.KNATIVE_CONFIGURATION, configuration, wanted)
        return None

    async def _latest(self, configuration: Object) -> tuple[Object | None, str]:
        """The Revision of the present generation, made if need be, or why it cannot be made."""
        desired = resources.revision(configuration)
        found = self._revisions.lister.get(objects.key(desired))
        if found is None:
            found = await self._create(desired)
        generation = objects.labels(found).get(words.CONFIGURATION_GENERATION_LABEL)
        mine = objects.is_controlled_by(found, configuration)
        if mine and generation == str(objects.generation(configuration)):
            return found, ""
        if mine and objects.spec(found) == desired["spec"]:
            return found, ""  # the template of an older generation again
        name = objects.name(desired)
        return None, f'The name "{name}" is taken by another Revision; a changed template needs a new name.'

    async def _create(self, desired: Object) -> Object:
        try:
            return await self._manager.client.create(kinds.KNATIVE_REVISION, desired)
        except errors.AlreadyExists:
            return await self._manager.client.get(
                kinds.KNATIVE_REVISION, objects.name(desired), objects.namespace(desired)
            )

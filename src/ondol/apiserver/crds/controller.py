"""Follows the definitions: gives them their status, serves them, and cleans up after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.apiserver import deleting, lenses, writing
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.core import Core
from ondol.apiserver.crds import naming, serving
from ondol.apiserver.crds.conversion import Converter, LocalConverter
from ondol.apiserver.kinds.apiextensions.custom_resource_definition import CLEANUP
from ondol.apiserver.ports import Converting
from ondol.apiserver.served import Served
from ondol.apiserver.webhooks.calling import Caller
from ondol.base import errors, log
from ondol.store.log import Watch

_RETRY_S: Final = 1.0
_OPTIONS: Final = writing.Options(User("system:apiserver", (MASTERS,)), "ondol-apiserver")


class Controller:
    """Keeps the catalogue in step with the definitions in the store."""

    def __init__(self, core: Core, caller: Caller | None = None) -> None:
        """`caller` reaches the webhooks that convert objects; without it none is converted."""
        self._core = core
        self._caller = caller
        self._crds = core.catalogue.of(resources.CUSTOM_RESOURCE_DEFINITION)
        self._serving: dict[str, list[Served]] = {}
        self._forms: dict[str, serving.Form] = {}
        self._log = log.get("apiserver")

    def load(self) -> None:
        """Serve what is established already, before the first request."""
        for crd in self._core.list_objects(resources.CUSTOM_RESOURCE_DEFINITION):
            self._serve(crd)

    async def run(self) -> None:
        """Handle every change, for ever."""
        store = self._core.store
        cursor = store.watch(self._crds.bucket, after=store.revision)
        pending = {objects.name(crd) for crd in self._core.list_objects(self._crds.resource)}
        while True:
            while pending:
                await self._handle(pending.pop(), pending)
            changes = self._take(cursor)
            if changes is None:
                pending = {objects.name(crd) for crd in self._core.list_objects(self._crds.resource)}
                pending |= self._serving.keys()
                cursor = store.watch(self._crds.bucket, after=store.revision)
            elif changes:
                pending = changes
            else:
                await cursor.changed()

    def _take(self, cursor: Watch) -> set[str] | None:
        try:
            return {event.record.name for event in cursor.take()}
        except errors.Expired:
            return None

    async def _handle(self, name: str, pending: set[str]) -> None:
        try:
            await self._reconcile(name)
            if name not in self._serving:
                pending |= self._waiting() - {name}
        except errors.OndolError as error:
            self._log.warning("definition_not_handled", crd=name, error=str(error))
            await self._core.clock.sleep(_RETRY_S)
            pending.add(name)

    def _waiting(self) -> set[str]:
        """Definitions whose names another one holds, or held until now."""
        return {
            objects.name(crd)
            for crd in self._core.list_objects(self._crds.resource)
            if conditions.is_false(crd, naming.NAMES_ACCEPTED) and self._may_have_names(crd)
        }

    def _may_have_names(self, crd: Object) -> bool:
        others = self._core.list_objects(self._crds.resource)
        return naming.status(crd, others, 0) != objects.status(crd)

    async def _reconcile(self, name: str) -> None:
        crd = self._core.lookup(self._crds.resource, "", name)
        if crd is None:
            self._withdraw(name)
            return
        if objects.is_deleting(crd):
            self._serve(crd)
            await self._clean_up(crd)
            return
        others = self._core.list_objects(self._crds.resource)
        desired = naming.status(crd, others, self._core.clock.now())
        if desired != objects.status(crd):
            await self._write_status(crd, desired)
            crd = self._core.lookup(self._crds.resource, "", name) or crd
        self._serve(crd)

    async def _write_status(self, crd: Object, desired: Object) -> None:
        version = objects.resource_version(crd)

        def change(live: Object) -> Object:
            if objects.resource_version(live) != version:
                return live  # decided on something older: the newer change is coming to us as well
            return {**live, "status": desired}

        await self._writes(self._crds).update(
            "", objects.name(crd), lenses.Status(self._crds.strategy.status_reset), change
        )

    def _serve(self, crd: Object) -> None:
        name = objects.name(crd)
        if not naming.is_served(crd):
            self._withdraw(name)
            return
        crd = serving.compact(crd)
        form = self._forms.get(name)
        if form is None or not form.is_of(crd):
            form = serving.Form(crd)
        elif all(served.terminating == objects.is_deleting(crd) for served in self._serving[name]):
            return  # nothing of what is served is another: what was converted is still worth keeping
        try:
            kinds = serving.of(crd, form, self._converter, self._local_converter(name))
        except (errors.ApiError, ValueError, KeyError) as error:
            self._log.error("definition_not_served", crd=name, error=repr(error))
            return
        paths = {served.kind.api_version for served in kinds}
        for served in self._serving.get(name, ()):
            if served.kind.api_version not in paths:
                self._core.catalogue.remove(served)
        for served in kinds:
            self._core.catalogue.add(served)
        self._serving[name] = kinds
        if form is not self._forms.get(name):
            self._forms[name] = form
            self._core.store.wake(name)

    def _converter(self, webhook: Mapping[str, Any]) -> Converter:
        return Converter(self._caller, webhook, self._core.new_uid)

    def _local_converter(self, name: str) -> Converter | None:
        rules: object = self._core.rules.get(name)
        return LocalConverter(rules.convert) if isinstance(rules, Converting) else None

    def _withdraw(self, name: str) -> None:
        self._forms.pop(name, None)
        for served in self._serving.pop(name, ()):
            self._core.catalogue.remove(served)
            self._core.store.wake(served.bucket)

    async def _clean_up(self, crd: Object) -> None:
        """Delete the custom resources of a definition that is going away, then let it go."""
        if CLEANUP not in objects.finalizers(crd):
            return
        waiting = False
        served = serving.as_stored(crd)
        for record in self._core.store.page(served.bucket).records:
            waiting |= await self._delete(served, self._core.document(served, record))
        if waiting:
            await self._core.clock.sleep(_RETRY_S)
            raise errors.Conflict("custom resources wait for their finalizers")

        def release(live: Object) -> Object:
            finalizers = [name for name in objects.finalizers(live) if name != CLEANUP]
            return {**live, "metadata": {**live["metadata"], "finalizers": finalizers}}

        whole = lenses.Whole(has_status=True)
        await self._writes(self._crds).update("", objects.name(crd), whole, release)

    async def _delete(self, served: Served, obj: Object) -> bool:
        """Delete one object; whether it is still there."""
        options = deleting.DeleteOptions(uid=objects.uid(obj))
        try:
            deleted = await deleting.delete(
                self._writes(served), objects.namespace(obj), objects.name(obj), options
            )
        except errors.NotFound:
            return False
        return not deleted.is_removed

    def _writes(self, served: Served) -> writing.Writes:
        return writing.Writes(self._core, served, _OPTIONS)

"""PersistentVolumes."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import storage as defaults
from ondol.api.objects import Object
from ondol.api.tables import storage as tables
from ondol.api.validation import Rules, claims, warnings
from ondol.apiserver.admission import storage_use
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.base import clock

_CHANGED: Final = "lastPhaseTransitionTime"


class PersistentVolume(Strategy):
    """Tells since when it is in its phase."""

    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        new["status"] = {"phase": "Pending", _CHANGED: clock.rfc3339(context.now)}

    def prepare_for_status_update(self, context: Context, new: Object, old: Object) -> None:
        before, status = objects.status(old), {**objects.status(new)}
        if status.get("phase") == before.get("phase"):
            if before.get(_CHANGED):
                status.setdefault(_CHANGED, before[_CHANGED])
        elif status.get(_CHANGED) in (None, before.get(_CHANGED)):
            status[_CHANGED] = clock.rfc3339(context.now)
        new["status"] = status

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.volume(new)


KIND: Final = Kind(
    "",
    "PersistentVolume",
    strategy=PersistentVolume(),
    default=defaults.volume,
    rules=Rules(claims.volume, claims.volume_update),
    layout=tables.VOLUME,
    plugins=Plugins(mutating=(storage_use.admit_volume,)),
)

"""PersistentVolumes."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from ondol.api import facts, objects, volume_kinds
from ondol.api.defaults import storage as defaults
from ondol.api.objects import Object
from ondol.api.tables import storage as tables
from ondol.api.validation import Rules, claims, warnings
from ondol.apiserver.admission import storage_use
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Rule, Unsupported
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


def _rules() -> Iterator[Rule]:
    yield Rule(
        "persistentVolumeReclaimPolicy",
        "nothing is recycled: the volume is Failed when its claim is gone",
        ("Delete", "Retain"),
    )
    yield Rule("mountOptions", "the node refuses pods with such a volume")
    yield Rule("volumeMode", "the node refuses pods with raw block devices", ("Filesystem",))
    yield Rule("volumeAttributesClassName", "no volume is changed to what a class of attributes says")
    sources = set(facts.type_named("io.k8s.api.core.v1.PersistentVolumeSpec").fields) - claims.NOT_SOURCES
    for name in sorted(sources - set(volume_kinds.PERSISTENT)):
        yield Rule(name, "the node refuses pods with such a volume")


KIND: Final = Kind(
    "",
    "PersistentVolume",
    strategy=PersistentVolume(),
    default=defaults.volume,
    rules=Rules(claims.volume, claims.volume_update),
    layout=tables.VOLUME,
    unsupported=Unsupported(tuple(_rules())),
    plugins=Plugins(mutating=(storage_use.admit_volume,)),
)

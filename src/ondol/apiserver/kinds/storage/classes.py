"""StorageClasses, of which one may be for claims that name none, and VolumeAttributesClasses."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import Final

from ondol.api.defaults import storage as defaults
from ondol.api.objects import Object
from ondol.api.tables import storage as tables
from ondol.api.validation import Rules, storage, warnings
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported


class StorageClass(Strategy):
    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.storage_class(new)


KINDS: Final = (
    Kind(
        "storage.k8s.io",
        "StorageClass",
        strategy=StorageClass(),
        default=defaults.storage_class,
        rules=Rules(storage.storage_class, storage.storage_class_update),
        layout=tables.STORAGE_CLASS,
    ),
    Kind(
        "storage.k8s.io",
        "VolumeAttributesClass",
        rules=Rules(storage.attributes_class, storage.attributes_class_update),
        layout=tables.ATTRIBUTES_CLASS,
        unsupported=Unsupported(kind="no volume is changed to what a class of attributes says"),
    ),
)

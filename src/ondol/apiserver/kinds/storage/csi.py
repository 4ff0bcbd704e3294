"""What CSI drivers say of themselves: how they work, on which nodes, and what room there is."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import storage as defaults
from ondol.api.objects import Object
from ondol.api.tables import storage as tables
from ondol.api.validation import Rules, storage, warnings
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Unsupported


class Conditional(Strategy):
    """A client that overwrites one must say which it has seen."""

    unconditional_update: ClassVar[bool] = False


class CSIDriver(Conditional):
    """Its changes are counted, from none."""

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        was = int(old["metadata"].get("generation") or 0)
        if self.desired_state(new) != self.desired_state(old):
            new["metadata"]["generation"] = was + 1
        elif was:
            new["metadata"]["generation"] = was


class CSIStorageCapacity(Conditional):
    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.storage_capacity(new)


_UNSUPPORTED: Final = Unsupported(kind="there are no CSI drivers: the node refuses pods with their volumes")

KINDS: Final = (
    Kind(
        "storage.k8s.io",
        "CSIDriver",
        strategy=CSIDriver(),
        default=defaults.csi_driver,
        rules=Rules(storage.csi_driver, storage.csi_driver_update),
        layout=tables.CSI_DRIVER,
        unsupported=_UNSUPPORTED,
    ),
    Kind(
        "storage.k8s.io",
        "CSINode",
        strategy=Conditional(),
        rules=Rules(storage.csi_node, storage.csi_node_update),
        layout=tables.CSI_NODE,
        unsupported=_UNSUPPORTED,
    ),
    Kind(
        "storage.k8s.io",
        "CSIStorageCapacity",
        strategy=CSIStorageCapacity(),
        rules=Rules(storage.capacity, storage.capacity_update),
        layout=tables.CAPACITY,
        unsupported=_UNSUPPORTED,
    ),
)

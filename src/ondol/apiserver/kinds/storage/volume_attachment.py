"""VolumeAttachments: the wish that a volume be reachable from a node."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import storage as tables
from ondol.api.validation import Rules, storage
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported


class VolumeAttachment(Strategy):
    """A client that overwrites one must say which it has seen."""

    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {"attached": False}
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}
    unconditional_update: ClassVar[bool] = False


KIND: Final = Kind(
    "storage.k8s.io",
    "VolumeAttachment",
    strategy=VolumeAttachment(),
    rules=Rules(storage.attachment, storage.attachment_update),
    layout=tables.ATTACHMENT,
    unsupported=Unsupported(kind="no volume is attached to nodes"),
)

"""DeviceClasses and ResourceSlices: which devices there are, and what they are called together."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.tables import devices as tables
from ondol.api.validation import Rules, devices
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Unsupported
from ondol.base import clock


class DeviceClass(Strategy):
    has_generation: ClassVar[bool] = True


class ResourceSlice(DeviceClass):
    """Says since when its devices are tainted."""

    def prepare_for_create(self, context: Context, new: Object) -> None:
        _date_taints(context.now, new)
        super().prepare_for_create(context, new)

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        _date_taints(context.now, new)
        super().prepare_for_update(context, new, old)


def _date_taints(now: float, obj: Object) -> None:
    for device in objects.spec(obj).get("devices") or ():
        for taint in device.get("taints") or ():
            taint["timeAdded"] = taint.get("timeAdded") or clock.rfc3339(now)


_UNSUPPORTED: Final = Unsupported(kind="there are no dynamic resources: no device is given to claims")

KINDS: Final = (
    Kind(
        "resource.k8s.io",
        "DeviceClass",
        strategy=DeviceClass(),
        rules=Rules(devices.device_class),
        layout=tables.NAMED,
        unsupported=_UNSUPPORTED,
    ),
    Kind(
        "resource.k8s.io",
        "ResourceSlice",
        strategy=ResourceSlice(),
        rules=Rules(devices.resource_slice, devices.resource_slice_update),
        layout=tables.SLICE,
        unsupported=_UNSUPPORTED,
    ),
)

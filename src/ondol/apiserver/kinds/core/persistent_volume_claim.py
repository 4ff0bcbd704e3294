"""PersistentVolumeClaims."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import Any, ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import storage as defaults
from ondol.api.objects import Object
from ondol.api.tables import storage as tables
from ondol.api.validation import Rules, claims, warnings
from ondol.apiserver.admission import default_classes, storage_use
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Rule, Unsupported

_SNAPSHOTS: Final = ("snapshot.storage.k8s.io", "VolumeSnapshot")


class PersistentVolumeClaim(Strategy):
    """What its volume is filled from stands in two fields, of which either may be left out."""

    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {"phase": "Pending"}
    returns_deleted: ClassVar[bool] = True

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _unite_sources(new, {})

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        _unite_sources(new, old)

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.claim(objects.spec(new), "spec")


def _unite_sources(new: Object, old: Object) -> None:
    """Drop an old-style source that never worked, then fill in the field that is left out."""
    spec: Any = new["spec"]
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and ref is None and source != objects.spec(old).get("dataSource"):
        named = (source.get("apiGroup") or "", source.get("kind"))
        if named not in (("", "PersistentVolumeClaim"), _SNAPSHOTS):
            source = None
            del spec["dataSource"]
    if source is not None and ref is None:
        spec["dataSourceRef"] = dict(source)
    elif ref is not None and source is None and not ref.get("namespace"):
        spec["dataSource"] = dict(ref)


KIND: Final = Kind(
    "",
    "PersistentVolumeClaim",
    strategy=PersistentVolumeClaim(),
    default=defaults.claim,
    rules=Rules(claims.claim, claims.claim_update),
    layout=tables.CLAIM,
    unsupported=Unsupported(
        (
            Rule("dataSource", "the platform's own provisioner fills volumes from nothing"),
            Rule("dataSourceRef", "the platform's own provisioner fills volumes from nothing"),
            Rule("volumeMode", "the node refuses pods with raw block devices", ("Filesystem",)),
            Rule("volumeAttributesClassName", "no volume is changed to what a class of attributes says"),
        )
    ),
    plugins=Plugins(
        mutating=(default_classes.admit_claim, storage_use.admit_claim),
        validating=(storage_use.check_growth,),
    ),
    access=Access(
        view=("persistentvolumeclaims", "persistentvolumeclaims/status"), edit=("persistentvolumeclaims",)
    ),
)

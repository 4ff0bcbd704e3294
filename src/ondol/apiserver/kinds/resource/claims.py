"""ResourceClaims and templates for them: what devices are asked for, and what was given."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import devices as defaults
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import devices as tables
from ondol.api.validation import Rules, devices
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Unsupported
from ondol.base.errors import Cause


class ResourceClaim(Strategy):
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        return list(devices.claim_status(new, old)) if old is not None else []


_UNSUPPORTED: Final = Unsupported(kind="there are no dynamic resources: no device is given to claims")

KINDS: Final = (
    Kind(
        "resource.k8s.io",
        "ResourceClaim",
        strategy=ResourceClaim(),
        default=defaults.claim,
        rules=Rules(devices.claim, devices.fixed_spec),
        layout=tables.CLAIM,
        unsupported=_UNSUPPORTED,
        access=Access(view=("resourceclaims", "resourceclaims/status"), edit=("resourceclaims",)),
    ),
    Kind(
        "resource.k8s.io",
        "ResourceClaimTemplate",
        default=defaults.claim_template,
        rules=Rules(devices.claim_template, devices.fixed_spec),
        layout=tables.NAMED,
        unsupported=_UNSUPPORTED,
        access=Access(view=("resourceclaimtemplates",), edit=("resourceclaimtemplates",)),
    ),
)

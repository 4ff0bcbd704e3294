"""ResourceQuotas: admission holds to them (`admission.quotas`), and a controller reports what is used."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.tables import quotas as tables
from ondol.api.validation import Rules, limits
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class ResourceQuota(Strategy):
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}
    returns_deleted: ClassVar[bool] = True


KIND: Final = Kind(
    "",
    "ResourceQuota",
    strategy=ResourceQuota(),
    rules=Rules(limits.resource_quota, limits.resource_quota_update),
    layout=tables.LAYOUT,
    access=Access(view=("resourcequotas", "resourcequotas/status")),
)

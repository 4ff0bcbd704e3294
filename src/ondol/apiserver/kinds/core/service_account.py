"""ServiceAccounts. DELETE answers with the object."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import warnings
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class ServiceAccount(Strategy):
    returns_deleted: ClassVar[bool] = True

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.service_account(new, old)


KIND: Final = Kind(
    "",
    "ServiceAccount",
    strategy=ServiceAccount(),
    layout=builtin.layout("", "ServiceAccount"),
    access=Access(view=("serviceaccounts",), edit=("serviceaccounts",)),
)

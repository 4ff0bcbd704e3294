"""Ingresses: hosts and paths, and the Services behind them."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.tables import networking as tables
from ondol.api.validation import Rules, ingresses, warnings
from ondol.apiserver.admission import default_classes, ingress_use
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Reconciled
from ondol.base.errors import Cause


class Ingress(Reconciled):
    empty_status: ClassVar[Object | None] = {"loadBalancer": {}}

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        return list(ingresses.new_ingress(new)) if old is None else []

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return list(warnings.ingress(new, old))


KIND: Final = Kind(
    "networking.k8s.io",
    "Ingress",
    strategy=Ingress(),
    rules=Rules(ingresses.ingress),
    layout=tables.INGRESS,
    plugins=Plugins(mutating=(default_classes.admit_ingress,), validating=(ingress_use.warn,)),
    access=Access(view=("ingresses", "ingresses/status"), edit=("ingresses",)),
)

"""Ingresses: hosts and paths, and the Services behind them."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.tables import networking as tables
from ondol.api.validation import Rules, ingresses, warnings
from ondol.apiserver.admission import default_classes
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Reconciled
from ondol.base.errors import Cause
from ondol.contracts import ingress


class Ingress(Reconciled):
    empty_status: ClassVar[Object | None] = {"loadBalancer": {}}

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        return list(ingresses.new_ingress(new)) if old is None else []

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return [*warnings.ingress(new, old), *_not_acted_on(new, old)]


def _not_acted_on(new: Object, old: Object | None) -> Iterator[str]:
    """What an Ingress of the platform's own class says for another controller, when it begins to."""
    if objects.spec(new).get("ingressClassName") != ingress.CLASS:
        return
    before = objects.annotations(old) if old is not None else {}
    for name, value in objects.annotations(new).items():
        if name.startswith(ingress.NGINX) and name not in ingress.ACTED_ON and before.get(name) != value:
            yield f"metadata.annotations[{name}]: nothing acts on it for class {ingress.CLASS}"


KIND: Final = Kind(
    "networking.k8s.io",
    "Ingress",
    strategy=Ingress(),
    rules=Rules(ingresses.ingress),
    layout=tables.INGRESS,
    plugins=Plugins(mutating=(default_classes.admit_ingress,)),
    access=Access(view=("ingresses", "ingresses/status"), edit=("ingresses",)),
)

"""IngressClasses: who answers for Ingresses; one may be for those that name none."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import network as defaults
from ondol.api.tables import networking as tables
from ondol.api.validation import Rules, ingresses
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class IngressClass(Strategy):
    has_generation: ClassVar[bool] = True


KIND: Final = Kind(
    "networking.k8s.io",
    "IngressClass",
    strategy=IngressClass(),
    default=defaults.ingress_class,
    rules=Rules(ingresses.ingress_class, ingresses.ingress_class_update),
    layout=tables.INGRESS_CLASS,
)

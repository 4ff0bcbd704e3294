"""Endpoints, which EndpointSlices have taken the place of. PUT creates what is missing."""

from __future__ import annotations

from typing import Final

from ondol.api.defaults import network as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, network, warnings
from ondol.apiserver.admission import addresses
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted


class Endpoints(Upserted):
    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Of addresses that are not spelled as they should be."""
        return warnings.endpoints(new, old)


KIND: Final = Kind(
    "",
    "Endpoints",
    strategy=Endpoints(),
    default=defaults.endpoints,
    rules=Rules(network.endpoints),
    layout=builtin.layout("", "Endpoints"),
    plugins=Plugins(mutating=(addresses.admit_endpoints,)),
    access=Access(view=("endpoints",)),
    deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)

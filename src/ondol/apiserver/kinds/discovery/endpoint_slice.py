"""EndpointSlices: everything in them is desired state, nothing is status."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import network as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, network, warnings
from ondol.apiserver.admission import addresses
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class EndpointSlice(Strategy):
    has_generation: ClassVar[bool] = True

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Of addresses that are not spelled as they should be."""
        return warnings.endpoint_slice(new, old)


KIND: Final = Kind(
    "discovery.k8s.io",
    "EndpointSlice",
    strategy=EndpointSlice(),
    default=defaults.endpoint_slice,
    rules=Rules(network.endpoint_slice, network.endpoint_slice_update),
    layout=builtin.layout("discovery.k8s.io", "EndpointSlice"),
    plugins=Plugins(mutating=(addresses.admit_endpoints,)),
    access=Access(view=("endpointslices",)),
)

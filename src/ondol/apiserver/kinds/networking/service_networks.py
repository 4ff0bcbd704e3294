"""ServiceCIDRs and IPAddresses: the networks and addresses of Services, as objects."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import networking as tables
from ondol.api.validation import Rules, networks
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported


class ServiceCIDR(Strategy):
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}


KINDS: Final = (
    Kind(
        "networking.k8s.io",
        "ServiceCIDR",
        strategy=ServiceCIDR(),
        rules=Rules(networks.service_cidr, networks.service_cidr_update),
        layout=tables.SERVICE_CIDR,
        unsupported=Unsupported(
            kind="Services get addresses of the network the platform was started with, and of no other"
        ),
    ),
    Kind(
        "networking.k8s.io",
        "IPAddress",
        rules=Rules(networks.address, networks.address_update, networks.address_name),
        layout=tables.ADDRESS,
        unsupported=Unsupported(
            kind="addresses are given to Services without such objects, and ask for none"
        ),
    ),
)

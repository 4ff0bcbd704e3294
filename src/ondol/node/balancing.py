"""Services of type LoadBalancer: they are reached at an address of this machine, and their status says so.

The kernel's table leads there as it leads at external IPs; `claims` settles who has which port. Those with a
`loadBalancerClass` are the work of somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors, log
from ondol.node.network import services
from ondol.node.network.claims import Settlement
from ondol.node.pods.host import Host
from ondol.sdk.status import Writer

_FIELD_MANAGER: Final = "service-controller"
"""In Kubernetes that is who writes it."""
_FIELD: Final = "loadBalancer"

_log = log.get("node.network")


class Balancing:
    def __init__(self, host: Host, address: str) -> None:
        self._host = host
        self._address = address
        self._status = Writer(host.client, resources.SERVICE, field_manager=_FIELD_MANAGER, fields=(_FIELD,))

    async def tell(self, settlement: Settlement) -> bool:
        """Write where each Service is reached; whether all could be told.

        One that did not get every port has no address: the condition of its losses says what it lacks.
        """
        lacking = {loss.owner.uid for loss in settlement.losses}
        is_whole = True
        for service in self._host.sources.services.lister.list():
            desired = _ingress(service, self._address, lacks=objects.uid(service) in lacking)
            if desired is None or desired == _current(service):
                continue
            try:
                await self._status.write(service, {_FIELD: {"ingress": desired} if desired else {}})
            except errors.Conflict:
                continue  # gone meanwhile, and its name another's
            except errors.ApiError as error:
                _log.warning("address_not_told", service=str(objects.key(service)), error=str(error))
                is_whole = False
        return is_whole


def _current(service: Mapping[str, Any]) -> list[Object]:
    return list((objects.status(service).get(_FIELD) or {}).get("ingress") or ())


def _ingress(service: Mapping[str, Any], address: str, *, lacks: bool) -> list[Object] | None:
    """The ingress points of its status; None where that is somebody else's to say.

    A Service that is no longer balanced loses what was written here, and nothing else.
    """
    at = services.balanced_at(service, address)
    if at:
        return [] if lacks else [{"ip": at, "ipMode": "VIP"}]
    was_ours = any(each.get("ip") == address for each in _current(service))
    is_other = bool(objects.spec(service).get("loadBalancerClass"))
    return [] if was_ours and not is_other else None

"""APIServices: who answers for a version of a group; those of this server itself are there at start."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import servers as tables
from ondol.api.validation import Rules, api_services, fields
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.base import clock


class APIService(Strategy):
    """A client that overwrites one must say which it has seen."""

    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}
    unconditional_update: ClassVar[bool] = False

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        if objects.spec(new).get("service") is None:
            available = {
                "type": "Available",
                "status": "True",
                "lastTransitionTime": clock.rfc3339(context.now),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
            new["status"] = {"conditions": [available]}


def _default(document: Any) -> None:
    service = document["spec"].get("service")
    if service is not None:
        service.setdefault("port", 443)


KIND: Final = Kind(
    "apiregistration.k8s.io",
    "APIService",
    strategy=APIService(),
    default=_default,
    rules=Rules(api_services.api_service, name=fields.path_segment),
    layout=tables.API_SERVICE,
)

"""Deployments, ReplicaSets, EndpointSlices and other kinds that count generations."""

from __future__ import annotations

from typing import ClassVar

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.validation import warnings
from ondol.apiserver.strategies.base import Strategy


class Counted(Strategy):
    """Counts generations; everything is wish, nothing is status."""

    has_generation: ClassVar[bool] = True


class Reported(Strategy):
    """Counts generations, and has its status written by controllers only."""

    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.workload(new, old)


class ReplicaSet(Reported):
    """Shows how many replicas it has even where these are none."""

    empty_status: ClassVar[Object | None] = {"replicas": 0}


class Deployment(Reported):
    """Its labels are not written with the status, unlike those of every other built-in kind."""

    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {"f:labels": {}}}

    def wish(self, obj: Object) -> Object:
        """Its annotations too: those of its ReplicaSets follow them."""
        return {**super().wish(obj), "annotations": objects.annotations(obj)}


class Upserted(Strategy):
    """PUT creates what is missing."""

    create_on_update: ClassVar[bool] = True


class EndpointSlice(Counted):
    """Warns of addresses that are not spelled as they should be."""

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.endpoint_slice(new, old)


class Endpoints(Upserted):
    """The same, in the older form."""

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.endpoints(new, old)


class Lease(Upserted):
    """Renewed only by who has seen the last renewal."""

    unconditional_update: ClassVar[bool] = False


class ServiceAccount(Strategy):
    """DELETE answers with the object."""

    returns_deleted: ClassVar[bool] = True

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.service_account(new, old)

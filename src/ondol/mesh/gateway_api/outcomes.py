"""What is to be said of Gateway API's objects, as values: conditions without their times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ondol.api.conditions import Status
from ondol.api.objects import Key, Object
from ondol.mesh.gateway_api.model import RouteGroupKind
from ondol.mesh.xds.types import Origin


class Condition(NamedTuple):
    type: str
    status: Status
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ListenerOutcome:
    name: str
    kinds: tuple[RouteGroupKind, ...]
    attached: int
    conditions: tuple[Condition, ...]
    """All but `Programmed`."""
    resource: str = ""
    """The proxy's listener that must run; empty for a listener that is not served."""


@dataclass(frozen=True, slots=True)
class GatewayOutcome:
    """Of a Gateway or a ListenerSet."""

    conditions: tuple[Condition, ...]
    """All but `Programmed`."""
    listeners: tuple[ListenerOutcome, ...] = ()
    address_problem: str = ""
    """Why none of the addresses that are asked for can be had."""
    attached_sets: int = 0


@dataclass(frozen=True, slots=True)
class ParentOutcome:
    """Of one parent of a Route, or one ancestor of a policy."""

    reference: Object
    """As the object has it."""
    conditions: tuple[Condition, ...]
    rules: tuple[tuple[Origin, int], ...] = ()
    """What stands for a Route at the ingress, and how many of its hosts are in each."""


@dataclass(frozen=True, slots=True)
class ClassOutcome:
    conditions: tuple[Condition, ...]


@dataclass(slots=True)
class Outcomes:
    """Of every object that is the mesh's, by kind and key; those of others have none."""

    classes: dict[Key, ClassOutcome] = field(default_factory=dict)
    gateways: dict[tuple[str, Key], GatewayOutcome] = field(default_factory=dict)
    parents: dict[tuple[str, Key], tuple[ParentOutcome, ...]] = field(default_factory=dict)

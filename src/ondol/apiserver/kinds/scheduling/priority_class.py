"""PriorityClasses: names for priorities, of which one may be for pods that name none."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import cluster as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, scheduling
from ondol.apiserver.admission import priority
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class PriorityClass(Strategy):
    """Always of its first generation: what it gives cannot be changed."""

    has_generation: ClassVar[bool] = True

    def desired_state(self, obj: Object) -> Object:
        return {}


KIND: Final = Kind(
    "scheduling.k8s.io",
    "PriorityClass",
    strategy=PriorityClass(),
    default=defaults.priority_class,
    rules=Rules(scheduling.priority_class, scheduling.priority_class_update),
    layout=builtin.layout("scheduling.k8s.io", "PriorityClass"),
    plugins=Plugins(validating=(priority.admit_class,)),
)

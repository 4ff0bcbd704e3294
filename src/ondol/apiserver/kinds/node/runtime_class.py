"""RuntimeClasses: what runs the containers of a pod, what that costs, and on which nodes it does."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, runtime_classes, warnings
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class RuntimeClass(Strategy):
    """A client that overwrites one must say which it has seen; PUT also creates."""

    create_on_update: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.runtime_class(new)


KIND: Final = Kind(
    "node.k8s.io",
    "RuntimeClass",
    strategy=RuntimeClass(),
    rules=Rules(runtime_classes.runtime_class, runtime_classes.runtime_class_update),
    layout=builtin.layout("node.k8s.io", "RuntimeClass"),
)

"""FlowSchemas and PriorityLevelConfigurations: which requests are of which weight."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import flow_control, resources
from ondol.api.defaults import flow_control as defaults
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import servers as tables
from ondol.api.validation import Rules
from ondol.api.validation import flow_control as validation
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.priority import matching
from ondol.apiserver.strategy import Context, Reconciled

_GROUP: Final = "flowcontrol.apiserver.k8s.io"


class Flow(Reconciled):
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}


class Schema(Flow):
    """Says from the beginning whether its level is there, so that nobody has to write it at rest."""

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _tell(context, new)

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        if matching.level_of(new) != matching.level_of(old):
            _tell(context, new)


def _tell(context: Context, new: Object) -> None:
    level = matching.level_of(new)
    is_there = (
        flow_control.is_own_level(level) or context.lookup(resources.PRIORITY_LEVEL, "", level) is not None
    )
    new["status"] = {"conditions": [flow_control.dangling(level, is_there=is_there, now=context.now)]}


KINDS: Final = (
    Kind(
        _GROUP,
        "FlowSchema",
        strategy=Schema(),
        default=defaults.schema,
        rules=Rules(validation.schema),
        layout=tables.SCHEMA,
    ),
    Kind(
        _GROUP,
        "PriorityLevelConfiguration",
        strategy=Flow(),
        default=defaults.level,
        rules=Rules(validation.level),
        layout=tables.LEVEL,
    ),
)

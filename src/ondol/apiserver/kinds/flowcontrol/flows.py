"""FlowSchemas and PriorityLevelConfigurations: which requests are of which weight."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import flow_control as defaults
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import servers as tables
from ondol.api.validation import Rules, flow_control
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Reconciled
from ondol.apiserver.unsupported import Unsupported

_GROUP: Final = "flowcontrol.apiserver.k8s.io"


class Flow(Reconciled):
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}


_UNSUPPORTED: Final = Unsupported(
    kind="the places among requests in flight are shared out evenly among users, by no such object"
)

KINDS: Final = (
    Kind(
        _GROUP,
        "FlowSchema",
        strategy=Flow(),
        default=defaults.schema,
        rules=Rules(flow_control.schema),
        layout=tables.SCHEMA,
        unsupported=_UNSUPPORTED,
    ),
    Kind(
        _GROUP,
        "PriorityLevelConfiguration",
        strategy=Flow(),
        default=defaults.level,
        rules=Rules(flow_control.level),
        layout=tables.LEVEL,
        unsupported=_UNSUPPORTED,
    ),
)

"""Nodes: registered with the status their agent already knows."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import cluster as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy


class Node(Strategy):
    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = False

    def prepare_for_create(self, context: Context, new: Object) -> None:
        """Everything is kept: the agent that registers a node reports its status at once."""


KIND: Final = Kind(
    "",
    "Node",
    strategy=Node(),
    default=defaults.node,
    rules=Rules(cluster.node, cluster.node_update),
    layout=builtin.layout("", "Node"),
)

"""Nodes: registered with the status their agent already knows."""

from __future__ import annotations

from typing import ClassVar

from ondol.api.objects import Object
from ondol.apiserver.strategies.base import Context, Strategy


class Node(Strategy):
    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = False

    def prepare_for_create(self, context: Context, new: Object) -> None:
        """Everything is kept: the agent that registers a node reports its status at once."""

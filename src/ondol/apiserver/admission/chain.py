"""`Chain`: the plug-ins in their order, in two phases around validation, as in Kubernetes.

    mutating plug-ins, then those outside  ->  schema and strategy  ->  validating plug-ins, then outside

A plug-in is a function, plain or `async`. What does not wait costs a call: there is no task and no turn of
the event loop for it. While one waits, other writes are made; so whoever runs the chain appends the outcome
under the condition that the object is still the one it was decided on, and runs it anew if it is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.ports import Admission
from ondol.apiserver.strategy import Context

Plugin: TypeAlias = Callable[[Parts, Context, Request], Awaitable[None] | None]
"""Refuses by raising an `ApiError`; in the mutating phase it may also complete `request.new`."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """Plug-ins of each phase, in their order."""

    mutating: Sequence[Plugin] = ()
    validating: Sequence[Plugin] = ()

    def __add__(self, other: Plugins) -> Plugins:
        return Plugins((*self.mutating, *other.mutating), (*self.validating, *other.validating))


@dataclass(frozen=True, slots=True)
class Chain:
    """Runs the plug-ins for one server.

    `by_type` has those of single built-in kinds, by the name of their type; they follow those of `every`
    kind.
    """

    parts: Parts
    every: Plugins
    by_type: Mapping[str, Plugins] = field(default_factory=dict)
    outside: Admission | None = None
    _of_type: dict[str, Plugins] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._of_type.update({name: self.every + own for name, own in self.by_type.items()})

    async def mutate(self, context: Context, request: Request) -> None:
        """Let every plug-in complete `request.new`, or refuse."""
        for plugin in self._of_type.get(request.served.kind.type, self.every).mutating:
            pending = plugin(self.parts, context, request)
            if pending is not None:
                await pending
        if self.outside is not None:
            # Plug-ins that have a say on what was changed here (Kubernetes' reinvocation) run behind this.
            await self.outside.mutate(context, request)

    async def validate(self, context: Context, request: Request) -> None:
        """Let every plug-in look at the valid object, which none of them changes."""
        for plugin in self._of_type.get(request.served.kind.type, self.every).validating:
            pending = plugin(self.parts, context, request)
            if pending is not None:
                await pending
        if self.outside is not None:
            await self.outside.validate(context, request)

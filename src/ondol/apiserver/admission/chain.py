"""`Chain`: the plug-ins in their order, in phases around the strategy and validation, as in Kubernetes.

    mutating plug-ins -> those outside (webhooks) -> mutating ones again, if something outside changed it
    -> strategy -> allocating plug-ins -> schema and rules -> validating plug-ins -> those outside

So what a webhook adds is defaulted, counted as a generation and checked like what the client sent, and an
address is given out only to an object that nothing changes any more.

A plug-in is a function, plain or `async`. What does not wait costs a call: there is no task and no turn of
the event loop for it. While one waits, other writes are made; so whoever runs the chain appends the outcome
under the condition that the object is still the one it was decided on, and runs it anew if it is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from ondol.apiserver import documents
from ondol.apiserver.admission import namespaces
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
    allocating: Sequence[Plugin] = ()
    """Give the object what no other may have; behind everything that may still change it."""

    def __add__(self, other: Plugins) -> Plugins:
        return Plugins(
            (*self.mutating, *other.mutating),
            (*self.validating, *other.validating),
            (*self.allocating, *other.allocating),
        )


class Chain:
    """Runs the plug-ins for one server.

    `by_type` has those of single built-in kinds, by the name of their type; they follow those of `every`
    kind. `outside` is asked in its order.
    """

    def __init__(
        self,
        parts: Parts,
        every: Plugins,
        by_type: Mapping[str, Plugins] = MappingProxyType({}),
        outside: Sequence[Admission] = (),
    ) -> None:
        self.parts = parts
        self._every = every
        self._of_type = {name: every + own for name, own in by_type.items()}
        self._outside = tuple(outside)

    def _plugins(self, request: Request) -> Plugins:
        return self._of_type.get(request.served.kind.type, self._every)

    async def mutate(self, context: Context, request: Request) -> None:
        """Let every plug-in complete `request.new`, or refuse."""
        plugins = self._plugins(request).mutating
        await self._run(plugins, context, request)
        if not self._outside:
            return
        completed = request.new
        for admission in self._outside:
            await admission.mutate(context, request)
        if request.new is completed:
            return
        # What was added outside is completed like the rest, and who asked for it sees it once more.
        request.is_again = True
        before = documents.dump(request.new)
        await self._run(plugins, context, request)
        if documents.dump(request.new) != before:
            request.new = {**request.new}  # another object than those outside have seen
        for admission in self._outside:
            await admission.mutate(context, request)

    async def allocate(self, context: Context, request: Request) -> None:
        """Give the object its own of what is shared out."""
        await self._run(self._plugins(request).allocating, context, request)

    async def validate(self, context: Context, request: Request) -> None:
        """Let every plug-in look at the valid object, which none of them changes."""
        await self._run(self._plugins(request).validating, context, request)
        for admission in self._outside:
            await admission.validate(context, request)

    def recheck(self, context: Context, request: Request) -> None:
        """Refuse a write whose namespace has gone while it waited."""
        namespaces.admit(self.parts, context, request)

    async def _run(self, plugins: Sequence[Plugin], context: Context, request: Request) -> None:
        for plugin in plugins:
            pending = plugin(self.parts, context, request)
            if pending is not None:
                await pending

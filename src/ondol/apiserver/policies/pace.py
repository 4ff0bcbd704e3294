"""`Pace`: lets the others on the event loop have their turn between costly expressions."""

from __future__ import annotations

from typing import Final

import anyio.lowlevel

from ondol.api.cel.policies.expressions import Budget

_TURN: Final = 50_000
"""Ten to twenty milliseconds of evaluation."""


class Pace:
    """Counts what was spent of budgets since the last turn."""

    def __init__(self) -> None:
        self._spent = 0

    async def rest(self, budget: Budget, before: int) -> None:
        """To be called behind an evaluation; `before` is what was left of the budget then."""
        self._spent += before - budget.left
        if self._spent >= _TURN:
            self._spent = 0
            await anyio.lowlevel.checkpoint()

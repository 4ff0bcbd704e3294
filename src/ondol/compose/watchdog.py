"""Whether a silent part hangs, decided from how long it has been silent and the CPU time it used."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

_LISTENING_STEPS: Final = 4
_PROBES_IN_SILENCE: Final = 6
_BUSY_PATIENCE: Final = 4
"""How many times longer than one that hangs a part may be silent that works all the while."""


class Verdict(enum.Enum):
    """What is known of a part by its silence."""

    ALIVE = enum.auto()
    BUSY = enum.auto()
    HANGS = enum.auto()


@dataclass(slots=True)
class Watch:
    """The silence of one part, in seconds.

    A part is silent for as long as it was listened to (`listened`): the time in which the supervisor itself
    did not run is not counted. `worked_s` is how long the part had run, or waited for a processor, when it
    was last heard. With a limit of 30 s: silent for 30 s and at work for less than 15 of them, it hangs; at
    work for more, it is busy and gets 120 s in all.
    """

    silence_max_s: float
    silent_s: float = 0.0
    worked_s: float = 0.0
    patience: int = 1

    @property
    def limit_s(self) -> float:
        return self.silence_max_s * self.patience

    @property
    def probe_interval_s(self) -> float:
        """How often a part that cannot report by itself is asked."""
        return self.limit_s / _PROBES_IN_SILENCE

    def heard(self, worked_s: float) -> None:
        """The part has reported, or answered; it had worked for `worked_s` since its start."""
        self.silent_s, self.patience, self.worked_s = 0.0, 1, worked_s

    def listened(self, seconds: float) -> None:
        """Nothing was heard for so much longer."""
        self.silent_s += seconds

    def wait_s(self) -> float:
        """How long to listen until the next verdict: in steps, since the supervisor may sleep through one."""
        return min(self.limit_s - self.silent_s, self.limit_s / _LISTENING_STEPS)

    @property
    def is_due(self) -> bool:
        """Whether the silence has reached its limit, so that a verdict needs to know how much was worked."""
        return self.silent_s >= self.limit_s

    def verdict(self, worked_s: float) -> Verdict:
        """What the silence means of a part that has worked for `worked_s` since its start.

        What it is doing would be lost if it were ended, and come again: work gets more time, once.
        """
        if not self.is_due:
            return Verdict.ALIVE
        is_busy = worked_s - self.worked_s > self.silent_s / 2
        return Verdict.BUSY if is_busy and self.patience == 1 else Verdict.HANGS

    def extend(self) -> None:
        """Give a busy part more time."""
        self.patience = _BUSY_PATIENCE

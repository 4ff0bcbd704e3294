"""What a reconcile answers with: a `Result`, or an error whose class says whether to try again.

Any other error is retried after the controller's back-off.
"""

from __future__ import annotations

from dataclasses import dataclass

from ondol.base import errors


@dataclass(frozen=True, slots=True)
class Result:
    """Done; look again after `requeue_after_s` if it is given."""

    requeue_after_s: float | None = None


class Terminal(errors.OndolError):
    """Trying again cannot help until the object changes: no retry."""


class Retry(errors.OndolError):
    """Not an error of anyone's, only too early: try again after `after_s`, without back-off."""

    def __init__(self, message: str = "", *, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s

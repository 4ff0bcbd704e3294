"""Whom probes and hooks ask, and what comes of it: values shared by the ways of asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ondol.base import errors
from ondol.node.runtime.port import ExecResult

Exec = Callable[[list[str], float], Awaitable[ExecResult]]
_PORT_MAX: Final = 65535


class UnknownPort(errors.OndolError):
    """A probe or hook names a port that the container does not have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    A `warning` is a success with something to say, an `error` a question that could not be put: it counts
    neither way.
    """

    kind: Literal["success", "warning", "failure", "error"]
    message: str = ""

    @property
    def succeeded(self) -> bool:
        return self.kind in ("success", "warning")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container is reached."""

    address: str
    ports: Mapping[str, int]
    run: Exec
    asked_from: str | None = None
    """The node's address from which it is asked; the kernel's choice without one."""

    def port(self, reference: str | int) -> int:
        """The number of a port by its name or number; `UnknownPort` when there is none."""
        text = str(reference)
        number = self.ports.get(text) or (int(text) if text.isdigit() else None)
        if number is None:
            raise UnknownPort(f'no port of the container is named "{text}"')
        if not 0 < number <= _PORT_MAX:
            raise UnknownPort(f"{number} is not a port number")
        return number

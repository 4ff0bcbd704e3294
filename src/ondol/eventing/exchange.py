"""Events between the data plane and others: who gets one, who sent one, and what was answered. Values.

Sources, sinks and transforms are written against these; the process `events` gives them its way out, and
makes applications of what answers (`applications`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ondol.api.objects import Key
from ondol.base import errors
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import outcome
from ondol.eventing.delivery.outcome import Outcome

_REQUEST_TIMEOUT: Final = 408
"""After it the rest of the request may still come: the connection is of no use any more."""
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where an event goes, and as whom it is sent."""

    url: str
    ca_certs: str = ""
    audience: str = ""
    service_account: Key | None = None
    """Whose token is sent along where the target asks for one."""
    namespace: str = ""
    """Where the sender is, which the receiver is told if it is known."""
    timeout_s: float | None = None
    """How long an answer may take; by default what the way out gives it."""
    is_structured: bool = False
    """Whether the event is sent as one document."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answered."""

    status: int
    headers: Pairs = ()
    body: bytes = b""

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_retriable(self) -> bool:
        """Whether the same event may be taken later, as the data plane specification has it."""
        return outcome.of(self.status) is Outcome.RETRY


class Sender(Protocol):
    """The way out: posts one event in binary mode; `Unavailable` or `Timeout` if nobody answers."""

    async def send(self, event: Event, target: Target) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A whole request. `path` is still percent-encoded."""

    method: str
    path: str
    headers: Pairs
    body: bytes

    def header(self, name: bytes) -> str:
        """The value of a header, whose name is in lower case; nothing if it is not there."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), "")


Handle: TypeAlias = Callable[[Incoming], Awaitable[Answer]]


def words(status: int, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    """An answer in words for people."""
    return Answer(status, (_TEXT, *headers), f"{message}\n".encode())


def refusal(error: errors.ApiError) -> Answer:
    """The answer that says an error."""
    return words(error.status_code, error.message, *refusal_headers(error))


def refusal_headers(error: errors.ApiError) -> list[tuple[bytes, bytes]]:
    """What the answer that says an error has beside it: when to try again, and whether by this connection."""
    headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status_code == _REQUEST_TIMEOUT:
        headers.append((b"connection", b"close"))
    return headers

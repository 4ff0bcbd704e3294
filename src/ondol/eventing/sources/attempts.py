"""One attempt to deliver an event, and what it came to."""

from __future__ import annotations

from typing import Final

from ondol.base import errors
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Answer, Sender, Target

NO_ANSWER: Final = 0
"""The status where nobody answered."""


async def attempt(sender: Sender, event: Event, target: Target) -> tuple[Answer, str]:
    """What came of it, and the reason in words if it was not taken."""
    try:
        answer = await sender.send(event, target)
    except errors.ApiError as error:
        return Answer(NO_ANSWER), f"{target.url} did not answer: {error.message}"
    return answer, "" if answer.is_accepted else f"{target.url} answered {answer.status}"


def is_refused(answer: Answer) -> bool:
    """Whether trying again would be in vain."""
    return answer.status != NO_ANSWER and not answer.is_accepted and not answer.is_retriable

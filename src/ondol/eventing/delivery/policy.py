"""How a delivery is tried: how often, with which pauses, for how long. From the specifications of objects.

A Trigger's own specification hides its broker's as a whole, as Knative has it: one that names a number of
retries and no sink for dead letters has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ondol.eventing import iso8601

Order: TypeAlias = Literal["ordered", "unordered"]

TIMEOUT_S: Final = 600.0
"""What an answer gets where nothing says otherwise."""
PAUSE_MAX_S: Final = 24 * 3600.0
SOURCE_DEFAULT: Final[Mapping[str, Any]] = {
    "retry": 10,
    "backoffPolicy": "exponential",
    "backoffDelay": "PT0.3S",
}
"""How sources try where nothing says otherwise, as Knative's KafkaSource does: for about five minutes."""
_EXPONENT_MAX: Final = 32
_JSON: Final = "json"


@dataclass(frozen=True, slots=True)
class Policy:
    """`retries` after the first attempt; `retry_after_max_s` None ignores what a subscriber asks for."""

    retries: int = 0
    backoff_s: float = 0.0
    is_exponential: bool = True
    timeout_s: float = TIMEOUT_S
    retry_after_max_s: float | None = None
    is_structured: bool = False


def effective(own: Mapping[str, Any] | None, default: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The specification that counts: the object's own, if it has one, else its broker's."""
    return own or default or {}


def of(spec: Mapping[str, Any]) -> Policy:
    """The policy of a specification, whose durations were validated; one that is not one counts as absent."""
    delay_s = _seconds(spec.get("backoffDelay"))
    policy = spec.get("backoffPolicy")
    return Policy(
        retries=max(0, int(spec.get("retry") or 0)),
        backoff_s=delay_s if policy and delay_s is not None else 0.0,
        is_exponential=policy != "linear",
        timeout_s=_seconds(spec.get("timeout")) or TIMEOUT_S,
        retry_after_max_s=_seconds(spec.get("retryAfterMax")),
        is_structured=spec.get("format") == _JSON,
    )


def _seconds(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        length_s = iso8601.seconds(text)
    except ValueError:
        return None
    return length_s if length_s >= 0 else None


def pause_s(policy: Policy, failures: int, retry_after_s: float | None = None) -> float:
    """How long to wait after so many failures in a row: Knative's client counts the first as number 0.

    So linear retries begin at once, and exponential ones with the delay itself. What the subscriber asked for
    is waited if it is longer, up to the policy's bound.
    """
    number = max(0, failures - 1)
    factor = 2.0 ** min(number, _EXPONENT_MAX) if policy.is_exponential else float(number)
    pause = policy.backoff_s * factor
    if retry_after_s is not None and policy.retry_after_max_s is not None:
        pause = max(pause, min(retry_after_s, policy.retry_after_max_s))
    return min(pause, PAUSE_MAX_S)

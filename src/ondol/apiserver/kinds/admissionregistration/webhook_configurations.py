"""Webhook configurations: who is asked before objects are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ondol.api.defaults import admission as defaults
from ondol.api.tables import admission as tables
from ondol.api.validation import Rules, webhooks
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.base.errors import Cause


class WebhookConfiguration(Strategy):
    """A client that overwrites one must say which it has seen."""

    has_generation: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False


def _configuration(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """What is wrong with one, its conditions last: who writes none does not pay for their language."""
    problems = list(webhooks.configuration(obj))
    yield from problems
    if not problems and any(each.get("matchConditions") for each in obj.get("webhooks") or ()):
        from ondol.api.cel.policies import checking  # noqa: PLC0415

        yield from checking.webhooks(obj)


KINDS: Final = (
    Kind(
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        strategy=WebhookConfiguration(),
        default=defaults.mutating_webhooks,
        rules=Rules(_configuration),
        layout=tables.CONFIGURATION,
    ),
    Kind(
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        strategy=WebhookConfiguration(),
        default=defaults.validating_webhooks,
        rules=Rules(_configuration),
        layout=tables.CONFIGURATION,
    ),
)

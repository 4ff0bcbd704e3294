"""Webhook configurations: who is asked before objects are stored."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import admission as defaults
from ondol.api.tables import admission as tables
from ondol.api.validation import Rules, webhooks
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported


class WebhookConfiguration(Strategy):
    """A client that overwrites one must say which it has seen."""

    has_generation: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False


_UNSUPPORTED: Final = Unsupported(kind="webhooks are not called by this server yet")

KINDS: Final = (
    Kind(
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        strategy=WebhookConfiguration(),
        default=defaults.mutating_webhooks,
        rules=Rules(webhooks.configuration),
        layout=tables.CONFIGURATION,
        unsupported=_UNSUPPORTED,
    ),
    Kind(
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        strategy=WebhookConfiguration(),
        default=defaults.validating_webhooks,
        rules=Rules(webhooks.configuration),
        layout=tables.CONFIGURATION,
        unsupported=_UNSUPPORTED,
    ),
)

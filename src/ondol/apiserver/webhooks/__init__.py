"""Admission webhooks: the writes that MutatingWebhookConfigurations and ValidatingWebhookConfigurations name
are shown to the servers that these name, which may change or refuse them.

    hooks (what is configured) -> matching (is it asked?) -> review (what is sent, what came back)
                                                          -> calling (one request) -> dispatch (all of a write)

Follows Kubernetes' `pkg/admission/plugin/webhook`.
"""

from __future__ import annotations

from ondol.apiserver.webhooks.dispatch import Webhooks

__all__ = ["Webhooks"]

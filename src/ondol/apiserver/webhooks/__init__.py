"""Admission webhooks: servers of the users' own that are shown writes, and may change or refuse them.

    hooks     what Mutating- and ValidatingWebhookConfigurations say
    matching  which writes that is about (`attributes`: a write as it is shown; `conditions`: expressions)
    review    the document that is sent, and what the answer says
    calling   one request, to a URL or to the endpoints of a Service
    dispatch  all of them for one write, in their order and with their policies

Follows Kubernetes' `pkg/admission/plugin/webhook`.
"""

from __future__ import annotations

from ondol.apiserver.webhooks.dispatch import Webhooks

__all__ = ["Webhooks"]

"""Who a token or a request is: answered, never stored, and nameless."""

from __future__ import annotations

from typing import Final

from ondol.api.validation import Rules
from ondol.apiserver.kinds.registration import Kind

KINDS: Final = tuple(
    Kind("authentication.k8s.io", kind, rules=Rules(nameless=True))
    for kind in ("TokenReview", "SelfSubjectReview")
)

"""What somebody may do: answered, never stored, and nameless."""

from __future__ import annotations

from typing import Final

from ondol.api.validation import Rules, rbac
from ondol.apiserver.kinds.registration import Kind

_GROUP: Final = "authorization.k8s.io"

KINDS: Final = (
    Kind(_GROUP, "SubjectAccessReview", rules=Rules(rbac.access_review, nameless=True)),
    Kind(_GROUP, "LocalSubjectAccessReview", rules=Rules(rbac.local_access_review, nameless=True)),
    Kind(_GROUP, "SelfSubjectAccessReview", rules=Rules(rbac.self_access_review, nameless=True)),
    Kind(_GROUP, "SelfSubjectRulesReview", rules=Rules(nameless=True)),
)

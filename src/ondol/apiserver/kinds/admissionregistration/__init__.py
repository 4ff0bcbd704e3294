"""The kinds of the group `admissionregistration.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.admissionregistration import policies, webhook_configurations

KINDS: Final = (*policies.KINDS, *webhook_configurations.KINDS)

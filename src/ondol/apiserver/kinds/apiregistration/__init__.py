"""The kinds of the group `apiregistration.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.apiregistration import api_service

KINDS: Final = (api_service.KIND,)

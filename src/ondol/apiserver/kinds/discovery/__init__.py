"""The kinds of the group `discovery.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.discovery import endpoint_slice

KINDS: Final = (endpoint_slice.KIND,)

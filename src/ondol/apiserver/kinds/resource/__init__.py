"""The kinds of the group `resource.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.resource import claims, devices

KINDS: Final = (*claims.KINDS, *devices.KINDS)

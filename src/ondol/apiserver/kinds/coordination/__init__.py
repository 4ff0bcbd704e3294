"""The kinds of the group `coordination.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.coordination import lease

KINDS: Final = (lease.KIND,)

"""The kinds of the group `scheduling.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.scheduling import priority_class

KINDS: Final = (priority_class.KIND,)

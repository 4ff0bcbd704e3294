"""The kinds of the group `events.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.events import event

KINDS: Final = (event.KIND,)

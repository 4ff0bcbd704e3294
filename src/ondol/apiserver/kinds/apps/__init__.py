"""The kinds of the group `apps`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.apps import deployment, replica_set

KINDS: Final = (deployment.KIND, replica_set.KIND)

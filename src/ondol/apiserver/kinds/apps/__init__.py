"""The kinds of the group `apps`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.apps import (
    controller_revision,
    daemon_set,
    deployment,
    replica_set,
    stateful_set,
)

KINDS: Final = (
    controller_revision.KIND,
    daemon_set.KIND,
    deployment.KIND,
    replica_set.KIND,
    stateful_set.KIND,
)

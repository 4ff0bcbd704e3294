"""What the storage controllers and the node's provisioner write for each other.

The annotations of Kubernetes stand in `ondol.api.volumes`.
"""

from __future__ import annotations

from typing import Final

PROVISIONER: Final = "ondol.dev/local"
"""The provisioner of the class `local`, which the node's agent is."""
CLASS: Final = "local"
FINALIZER: Final = "ondol.dev/local-volume"
"""On a provisioned volume until its folder is dealt with as its reclaim policy says."""

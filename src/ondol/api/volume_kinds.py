"""What nodes make of a pod's volumes: the one list, read by the node and by whoever warns of the rest.

Each name is the field of a `Volume` (or of a `VolumeProjection`) in the API and, in words with `_`, the
module of `ondol.node.volumes` that makes it: `configMap` is `config_map`.
"""

from __future__ import annotations

from typing import Final

KINDS: Final = (
    "configMap",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "hostPath",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
PROJECTIONS: Final = ("configMap", "downwardAPI", "secret", "serviceAccountToken")
"""What a `projected` volume may be put together from."""
MEDIA: Final = ("", "Memory")
"""What an `emptyDir` may be made of: the node's disk, or its memory."""
PERSISTENT: Final = ("hostPath", "local")
"""What a PersistentVolume may be made of."""

"""The kinds of the group `storage.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.storage import classes, csi, volume_attachment

KINDS: Final = (*classes.KINDS, *csi.KINDS, volume_attachment.KIND)

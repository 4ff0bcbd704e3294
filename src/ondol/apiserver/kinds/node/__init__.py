"""The kinds of the group `node.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.node import runtime_class

KINDS: Final = (runtime_class.KIND,)

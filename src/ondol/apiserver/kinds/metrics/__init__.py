"""The kinds of the group `metrics.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.metrics import usage

KINDS: Final = usage.KINDS

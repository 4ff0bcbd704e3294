"""The kinds of the group `autoscaling`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.autoscaling import horizontal_pod_autoscaler

KINDS: Final = horizontal_pod_autoscaler.KINDS

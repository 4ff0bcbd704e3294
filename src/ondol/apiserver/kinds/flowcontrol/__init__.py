"""The kinds of the group `flowcontrol.apiserver.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.flowcontrol import flows

KINDS: Final = flows.KINDS

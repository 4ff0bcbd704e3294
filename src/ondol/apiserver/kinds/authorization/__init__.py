"""The kinds of the group `authorization.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.authorization import reviews

KINDS: Final = reviews.KINDS

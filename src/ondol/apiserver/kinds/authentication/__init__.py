"""The kinds of the group `authentication.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.authentication import reviews

KINDS: Final = reviews.KINDS

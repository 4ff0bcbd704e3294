"""The kinds of the group `certificates.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.certificates import certificate_signing_request

KINDS: Final = (certificate_signing_request.KIND,)

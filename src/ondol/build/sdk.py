"""The Operator SDK of this machine in an image: what the requirement `ondol` stands for.

The SDK is the packages `ondol.sdk` and those below it, as they are installed here, and of the
requirements of the whole package only those that these import: an operator needs no proxy.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import ondol
from ondol.build.errors import BuildError

PACKAGES: Final = ("api", "base", "client", "sdk")
DISTRIBUTIONS: Final = (
    "aiohttp",
    "anyio",
    "google-re2",
    "msgspec",
    "prometheus-client",
    "pyyaml",
    "structlog",
)
_NAMED: Final = re.compile(r"ondol\s*(?:==\s*(?P<version>[\w.]+))?\s*(?:[;#].*)?", re.IGNORECASE)
_ANY_FORM: Final = re.compile(r"ondol(?![\w.-])", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_DATA: Final = (".py", ".json", ".typed")


def is_named(line: str) -> bool:
    """Whether a requirement line asks for the SDK; `BuildError` if not for this machine's."""
    if not _ANY_FORM.match(line):
        return False
    named = _NAMED.fullmatch(line)
    if named is None or named["version"] not in (None, ondol.__version__):
        raise BuildError(
            f"the requirement {line!r} cannot be met: this machine has the SDK of ondol {ondol.__version__}",
            remedy=f"write ondol or ondol=={ondol.__version__}",
        )
    return True


def requirements() -> list[str]:
    """What the SDK imports, in the versions that the whole package asks for."""
    declared = importlib.metadata.requires("ondol") or []
    return sorted(line for line in declared if _name(line) in DISTRIBUTIONS)


def _name(requirement: str) -> str:
    start = _NAME.match(requirement)
    return start[0].lower() if start else ""


def files() -> dict[str, Path]:
    """The SDK's files by their paths in a site folder."""
    root = Path(ondol.__file__).parent
    chosen = [root / "__init__.py", root / "py.typed", *_files([root / package for package in PACKAGES])]
    return {f"ondol/{path.relative_to(root).as_posix()}": path for path in chosen}


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _DATA)


def metadata() -> dict[str, str]:
    """Its entry among the installed distributions, so that an operator can tell the SDK's version."""
    folder = f"ondol-{ondol.__version__}.dist-info"
    headers = ["Metadata-Version: 2.1", "Name: ondol", f"Version: {ondol.__version__}"]
    headers += [f"Requires-Dist: {line}" for line in requirements()]
    return {f"{folder}/METADATA": "\n".join(headers) + "\n", f"{folder}/INSTALLER": "ondol\n"}


def digest() -> str:
    """Changes with the SDK's sources."""
    content = hashlib.sha256(repr(sorted(metadata().items())).encode())
    for name, path in sorted(files().items()):
        content.update(name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()

"""apt and dpkg-deb: packages and all they depend on, fetched and unpacked into folders, none installed.

apt is shown an empty machine, so that it brings every dependency, whatever is installed here. What
lies in its cache already is taken from there; with all of it there no network is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.build.debian import control
from ondol.build.debian.control import Package
from ondol.build.errors import BuildError

_CACHE: Final = Path("/var/cache/apt/archives")
_FILE: Final = "file:"
_SCRIPTS: Final = ("preinst", "postinst")
_TIMEOUT_S: Final = 900
_LINES_MAX: Final = 6
_FIELDS: Final = 3  # of a line of apt's: address, file, size, and perhaps a digest


@dataclass(frozen=True, slots=True)
class Fetched:
    """A package and its archive."""

    package: Package
    path: Path


@dataclass(frozen=True, slots=True)
class _Archive:
    address: str
    name: str
    size_bytes: int


class Apt:
    """apt with a folder of its own below `folder`; `cache` is looked into first."""

    def __init__(self, folder: Path, *, cache: Path = _CACHE) -> None:
        missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
        if missing:
            raise BuildError(
                f"{' and '.join(missing)} is not on this machine",
                remedy="run this on Debian or Ubuntu, whose packages it takes",
            )
        self._archives = folder / "archives"
        self._unpacked = folder / "unpacked"
        self._status = folder / "status"
        self._cache = cache
        (self._archives / "partial").mkdir(parents=True)
        self._unpacked.mkdir()
        self._unpacked.with_name("control").mkdir()
        self._status.touch()

    def fetch(self, requests: Sequence[str]) -> dict[str, Fetched]:
        """These packages with all they depend on, by name; `BuildError` in apt's words if there is none."""
        for request in requests:
            if not control.is_request(request):
                raise BuildError(f"{request!r} is not a package", remedy="name it as apt-get install does")
        for archive in _listed(self._get("--print-uris", requests)):
            self._take(archive)
        self._get("--download-only", requests)
        archives = [Fetched(_package(path), path) for path in sorted(self._archives.glob("*.deb"))]
        return {fetched.package.name: fetched for fetched in archives}

    def unpack(self, fetched: Fetched) -> Path:
        """The folder with the package's files, those of one package only."""
        target = self._unpacked / fetched.package.name
        if not target.exists():
            _run(["dpkg-deb", "--extract", str(fetched.path), str(target)])
        return target

    def scripts(self, fetched: Fetched) -> str:
        """The text of the scripts that installing would run."""
        folder = self._unpacked.with_name("control") / fetched.package.name
        if not folder.exists():
            _run(["dpkg-deb", "--control", str(fetched.path), str(folder)])
        files = [folder / name for name in _SCRIPTS]
        texts = [file.read_text(errors="replace") for file in files if file.is_file()]
        return "\n".join(texts)

    def _take(self, archive: _Archive) -> None:
        """From apt's cache, or from a folder that is a repository, whose archives apt leaves where they are.

        A file in the cache is believed as apt itself believes it, by its size.
        """
        places = [self._cache / archive.name]
        if archive.address.startswith(_FILE):
            places.append(Path(urllib.parse.unquote(archive.address.removeprefix(_FILE))))
        for place in places:
            if "/" not in archive.name and place.is_file() and place.stat().st_size == archive.size_bytes:
                shutil.copy(place, self._archives / archive.name)
                return

    def _get(self, action: str, requests: Sequence[str]) -> str:
        options = {
            "Dir::State::status": str(self._status),
            "Dir::Cache::archives": f"{self._archives}/",
            "Debug::NoLocking": "1",  # nothing is installed, and a user who is not root may ask
            "APT::Sandbox::User": "root",  # who else could not write to a folder of ours
            "APT::Install-Recommends": "0",
            "Acquire::Retries": "3",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return _run(["apt-get", "-q", "-y", *words, action, "install", "--", *requests])


def _listed(text: str) -> Iterator[_Archive]:
    """The archives in `'address' name size …`; names have apt's own escapes."""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("'") and len(words) >= _FIELDS and words[2].isdigit():
            yield _Archive(words[0].strip("'"), words[1], int(words[2]))


def _package(path: Path) -> Package:
    try:
        return control.parse(_run(["dpkg-deb", "--field", str(path)]))
    except KeyError as error:
        raise BuildError(f"{path.name} does not say its {error.args[0]}") from error


def _run(command: Sequence[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {_TIMEOUT_S} s", remedy="check the network") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))]
        raise BuildError(
            f"{command[0]}: {' '.join(lines[:_LINES_MAX]) or f'it ended with {done.returncode}'}",
            remedy="apt-get update, where a package is not known or too old to be fetched",
        )
    return done.stdout

"""Which paths of a folder its author leaves out: `.dockerignore`, or else `.gitignore`.

Both are lists of patterns of which the last that matches decides, `!` taking a path back in. Docker's
patterns are anchored at the folder; Git's hold from the folder of their file on downwards, and the
files of the folders above, up to the repository's root, hold too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pathspec

from ondol.base import errors
from ondol.build.errors import BuildError

DOCKERIGNORE: Final = ".dockerignore"
GITIGNORE: Final = ".gitignore"


class Ignored(Protocol):
    """Answers for paths relative to the folder that is built, `/` between their parts."""

    def leaves_out(self, path: str, *, is_folder: bool) -> bool: ...


def of(directory: Path) -> Ignored:
    """What the files in the folder (and for Git, above it) say; nothing is left out where there is none."""
    if (directory / DOCKERIGNORE).is_file():
        return _Docker(_lines(directory / DOCKERIGNORE))
    return _Git(directory)


class _Docker:
    """https://docs.docker.com/build/concepts/context/#dockerignore-files."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._spec = pathspec.PathSpec.from_lines("gitignore", [*_anchored(lines)])
        self._takes_back = any(line.startswith("!") for line in lines)

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        # A folder that is left out may hold a file that is taken back: then its files are asked one by one.
        return not (is_folder and self._takes_back) and self._spec.match_file(path)


def _anchored(lines: Sequence[str]) -> Iterator[str]:
    """Docker's patterns as Git's: cleaned as paths, anchored, and each with all that is below it."""
    for line in lines:
        takes_back = line.startswith("!")
        pattern = posixpath.normpath(line.removeprefix("!").strip().lstrip("/"))
        if pattern != ".":
            start = "!" if takes_back else ""
            yield f"{start}/{pattern}"
            yield f"{start}/{pattern}/**"


@dataclass(frozen=True, slots=True)
class _Rules:
    """One `.gitignore`: of the folder `inside` what is built, or of one above, which is `below` it."""

    spec: pathspec.GitIgnoreSpec
    inside: str = ""
    below: str = ""

    def relative(self, path: str) -> str:
        """A path below the folder that is built, as seen from these rules."""
        return f"{self.below}/{path}" if self.below else path.removeprefix(f"{self.inside}/")


class _Git:
    """https://git-scm.com/docs/gitignore: the file nearest to a path decides."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._above = [*self._from_above()]
        self._inside: dict[str, _Rules | None] = {}

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        for rules in self._deciding(path):
            included = rules.spec.check_file(rules.relative(path) + "/" * is_folder).include
            if included is not None:
                return included
        return False

    def _deciding(self, path: str) -> Iterator[_Rules]:
        """The rules that may speak of a path, the nearest first."""
        folder = path
        while folder:
            folder = posixpath.dirname(folder)
            if folder not in self._inside:
                spec = _spec(self._directory / folder)
                self._inside[folder] = _Rules(spec, inside=folder) if spec is not None else None
            if (rules := self._inside[folder]) is not None:
                yield rules
        yield from self._above

    def _from_above(self) -> Iterator[_Rules]:
        """Those of the repository's folders above, the nearest first; none outside a repository."""
        here = [self._directory, *self._directory.parents]
        root = next((n for n, folder in enumerate(here) if (folder / ".git").exists()), 0)
        for folder in here[1 : root + 1]:
            if (spec := _spec(folder)) is not None:
                yield _Rules(spec, below=self._directory.relative_to(folder).as_posix())


def _spec(folder: Path) -> pathspec.GitIgnoreSpec | None:
    file = folder / GITIGNORE
    return pathspec.GitIgnoreSpec.from_lines(_lines(file)) if file.is_file() else None


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{file} cannot be read: {errors.why(error)}", remedy=f"correct {file}") from error
    return [line for line in lines if line.strip() and not line.startswith("#")]

"""Who may look into the data directory: root alone, at every start anew.

It holds keys, pods' files and what images bring, set-uid programs among it. A folder that was made
beforehand keeps the mode it had, so it is closed here; those in it are closed as well, whatever becomes of
the one above. Containers need to pass none of them: what they see is mounted, not walked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ondol.base import trees

_CLOSED: Final = 0o700
_INNER: Final = (
    "containers",
    "events",
    "exits",
    "images",
    "layers",
    "logs",
    "observe",
    "pki",
    "pods",
    "rootfs",
    "seccomp",
    "volumes",
)
_BESIDE: Final = (
    "addresses.json",
    "config.toml",
    "kubeconfig",
    "lost+found",
    "node.reserve",
    "supervisor.lock",
)
ASIDE: Final = "before-restore-"
"""How the folders begin in which a restore keeps what was there before it."""
# The last is a backup's that was cut off, which the API server removes as it starts.
_BEGINNINGS: Final = ("instance.", "store.db", ASIDE, ".backup-")


def prepare(data_dir: Path) -> list[str]:
    """Make the platform's own folders and close them, and the data directory too.

    One that holds other things (a home, say) stays open to those who use them; their names are returned.
    """
    strangers = [entry.name for entry in _strangers(data_dir)]
    if not strangers:
        data_dir.chmod(_CLOSED)
    for name in _INNER:
        folder = data_dir / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_CLOSED)  # whatever the umask and however open it was found
    return strangers


def remove(data_dir: Path) -> list[str]:
    """Delete the data directory; where it holds other things only what is the platform's own in it.

    The names of what stays are returned.
    """
    strangers = list(_strangers(data_dir))
    if not strangers:
        trees.remove(data_dir)
    for entry in data_dir.iterdir() if strangers else ():
        if entry in strangers:
            continue
        if entry.is_dir() and not entry.is_symlink():
            trees.remove(entry)
        else:
            entry.unlink()
    return [entry.name for entry in strangers]


def _strangers(data_dir: Path) -> Iterator[Path]:
    for entry in sorted(data_dir.iterdir()):
        if entry.name not in (*_INNER, *_BESIDE) and not entry.name.startswith(_BEGINNINGS):
            yield entry

"""Commands as a user types them next, for the remedies of errors: they keep the user's data directory."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ondol.compose.settings import DEFAULT_DATA_DIR


def sudo() -> str:
    """What who came by sudo puts before the next command too: the platform's files are root's."""
    return "sudo " if "SUDO_UID" in os.environ else ""


def command(words: str, data_dir: Path) -> str:
    """`ondol <words>` for the platform of a data directory, quoted for a shell."""
    place = "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"{sudo()}ondol {words}{place}"

"""The platform as a service of systemd: the text of its unit, and where that is written, enabled and started.

A unit that somebody else has written is left alone. The data directory is never touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors, files
from ondol.compose import hints, lock
from ondol.compose import instance as instances
from ondol.compose.settings import Settings

NAME: Final = "ondol"
_FOLDER: Final = Path("etc/systemd/system")
_BOOTED: Final = Path("/run/systemd/system")
"""There exactly if systemd runs the machine (sd_booted(3))."""
_MARK: Final = "# Written by `ondol boot install`, which writes it anew; changes belong into a drop-in."
_NAME: Final = re.compile(r"[A-Za-z0-9:_.\\-]{1,200}")
_TIMEOUT_S: Final = 360.0
_TEXT: Final = """\
{mark}
[Unit]
Description=Ondol on {where}
Wants=network-online.target
After=network-online.target
RequiresMountsFor={folder}

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} up --data-dir {folder_word}
ExecReload={command} restart --data-dir {folder_word}
ExecStop={command} down --keep-pods --data-dir {folder_word}
# The pods are processes too, and go on.
KillMode=process
TimeoutStartSec=360
TimeoutStopSec=60
Restart=on-failure
RestartSec=2
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by its name; `root` is the file system it is for, an image's perhaps."""

    name: str = NAME
    root: Path = Path("/")

    @property
    def file(self) -> Path:
        return self.root / _FOLDER / f"{self.name}.service"

    @property
    def is_here(self) -> bool:
        """Whether it is for the system that runs."""
        return self.root == Path("/")


@dataclass(frozen=True, slots=True)
class Report:
    """How a unit is: `enabled` and `active` in systemd's words, `current` if install would write the same."""

    file: str
    installed: bool
    current: bool
    enabled: str
    active: str


def text(data_dir: Path, python: Path) -> str:
    """The unit for a platform on a data directory, run by an interpreter that has ondol."""
    return _TEXT.format(
        mark=_MARK,
        where=str(data_dir).replace("%", "%%"),
        folder=_word(str(data_dir)),
        folder_word=_word(str(data_dir), is_command=True),
        command=f"{_word(str(python), is_command=True)} -m ondol.cli",
    )


def _word(word: str, *, is_command: bool = False) -> str:
    """One word of a unit's line (systemd.syntax(7)); in commands variables are replaced as well."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if is_command:
        escaped = escaped.replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) else escaped


def unit(name: str, root: Path | None) -> Unit:
    """`HostError` for a name that systemd would not take."""
    if not _NAME.fullmatch(name):
        raise errors.HostError(f"{name!r} is no name of a unit", remedy="use letters, digits and dashes")
    return Unit(name, (root or Path("/")).absolute())


def install(settings: Settings, chosen: Unit, *, start: bool = True, force: bool = False) -> bool:
    """Write, enable and (for the system that runs) start the unit; whether anything was written."""
    _require_rights(chosen)
    present = _present(chosen.file)
    if present is not None and not _is_ours(present) and not force:
        raise errors.HostError(
            f"{chosen.file} is there already, and not written by ondol",
            remedy="look at it, then use --force; or choose another --name",
        )
    if chosen.is_here and start and not _is_active(chosen):
        _require_stopped(settings)
    desired = text(settings.data_dir, Path(sys.executable))
    changed = desired != present
    if changed:
        try:
            chosen.file.parent.mkdir(parents=True, exist_ok=True)
            files.replace(chosen.file, desired.encode(), mode=0o644)
        except OSError as error:
            raise errors.HostError(
                f"{chosen.file} cannot be written: {error.strerror}", remedy="make its folder writable"
            ) from error
    if not chosen.is_here:
        _systemctl("--root", str(chosen.root), "enable", chosen.file.name)
        return changed
    _systemctl("daemon-reload")
    _systemctl("enable", *(["--now"] if start else []), chosen.file.name)
    return changed


def uninstall(chosen: Unit, *, force: bool = False) -> bool:
    """Stop and disable the unit and remove its file; False if there is none. Data and pods stay."""
    _require_rights(chosen)
    present = _present(chosen.file)
    if present is None:
        return False
    if not _is_ours(present) and not force:
        raise errors.HostError(f"{chosen.file} is not written by ondol", remedy="use --force to remove it")
    if chosen.is_here:
        _systemctl("disable", "--now", chosen.file.name)
    else:
        _systemctl("--root", str(chosen.root), "disable", chosen.file.name)
    chosen.file.unlink()
    if chosen.is_here:
        _systemctl("daemon-reload")
    return True


def report(settings: Settings, chosen: Unit) -> Report:
    """How the unit is now."""
    present = _present(chosen.file)
    is_asked = present is not None and chosen.is_here and _BOOTED.is_dir()
    return Report(
        str(chosen.file),
        present is not None,
        present == text(settings.data_dir, Path(sys.executable)),
        _answer("is-enabled", chosen) if is_asked else "",
        _answer("is-active", chosen) if is_asked else "",
    )


def _require_rights(chosen: Unit) -> None:
    if not chosen.is_here:
        return
    if os.geteuid() != 0:
        raise errors.HostError("a service is root's to install", remedy="run with sudo, or see --print")
    if not _BOOTED.is_dir():
        raise errors.HostError(
            "systemd does not run this machine",
            remedy="have your service manager run what `ondol boot install --print` prints, "
            "or write the unit into an image with --root",
        )


def _require_stopped(settings: Settings) -> None:
    """A platform that runs outside the service has the data directory, and the service could not start."""
    existing = instances.load(settings.data_dir)
    if existing is not None and lock.holder(existing.lock_file) is not None:
        raise errors.HostError(
            f"a platform is running on {settings.data_dir} already, and not as this service",
            remedy=hints.command("down --keep-pods", settings.data_dir),
        )


def _present(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise errors.HostError(
            f"{file} cannot be read: {error.strerror}", remedy="make it readable"
        ) from error


def _is_ours(content: str) -> bool:
    return content.startswith(_MARK)


def _is_active(chosen: Unit) -> bool:
    return _answer("is-active", chosen) == "active"


def _answer(question: str, chosen: Unit) -> str:
    """A word of systemctl, whose exit status only says that it is not the best one."""
    return _run(question, chosen.file.name).stdout.strip()


def _systemctl(*words: str) -> None:
    done = _run(*words)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise errors.HostError(f"systemctl {' '.join(words)}: {complaint}", remedy="journalctl -xe")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemctl")
    if program is None:
        raise errors.HostError("systemctl is not there", remedy="install systemd, or see --print")
    try:
        return subprocess.run(
            [program, *words], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.HostError(f"systemctl {' '.join(words)}: {error}", remedy="journalctl -xe") from error

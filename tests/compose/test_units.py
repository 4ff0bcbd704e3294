"""The platform as a service of systemd: the unit's text, and what is asked of systemctl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.compose import instance as instances
from ondol.compose import lock, units
from ondol.compose.settings import Settings
from ondol.compose.units import Unit


class Machine:
    """A machine of the test's own, with a systemctl that notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder / "data")
        self.unit = Unit("ondol", folder / "image")
        self._asked = folder / "asked"
        self.program = folder / "bin" / "systemctl"
        self.program.parent.mkdir()
        self.answers("exit 0")

    def answers(self, script: str) -> None:
        self.program.write_text(f'#!/bin/sh\necho "$@" >> {self._asked}\n{script}\n')
        self.program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What it was asked since it was last looked at."""
        lines = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    return Machine(tmp_path)


@pytest.fixture
def here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A unit for the system that runs, which is the test's folder."""
    monkeypatch.setattr(Unit, "is_here", True)
    monkeypatch.setattr(units, "_BOOTED", machine.settings.data_dir.parent)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return machine.unit


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("/var/lib/ondol", "/var/lib/ondol"),
        ("/srv/my platform", '"/srv/my platform"'),
        ("/srv/100%", "/srv/100%%"),
        ("/srv/$HOME", "/srv/$$HOME"),
        ('/srv/a"b\\c', '"/srv/a\\"b\\\\c"'),
    ],
)
def test_a_folder_is_one_word_of_the_commands(folder: str, word: str) -> None:
    """Spaces, specifiers, variables and quotes mean themselves."""
    lines = units.text(Path(folder), Path("/opt/v/bin/python")).splitlines()
    assert f"ExecStart=/opt/v/bin/python -m ondol.cli up --data-dir {word}" in lines
    assert f"ExecReload=/opt/v/bin/python -m ondol.cli restart --data-dir {word}" in lines
    assert f"ExecStop=/opt/v/bin/python -m ondol.cli down --keep-pods --data-dir {word}" in lines


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("folder", ["/var/lib/ondol", "/srv/my 100% platform"])
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path, folder: str) -> None:
    """`systemd-analyze verify` finds no fault, and does with one that has some."""
    file = tmp_path / "ondol.service"

    def verdict(text: str) -> str:
        file.write_text(text)
        command = ["systemd-analyze", "verify", "--man=no", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if "ondol" in line)

    good = units.text(Path(folder), Path(sys.executable))
    assert verdict(good) == ""
    assert "KillMod" in verdict(good.replace("KillMode", "KillMod"))


def test_install_writes_enables_and_starts_once(machine: Machine, here: Unit) -> None:
    """A second time nothing is written; systemd is asked again, which changes nothing."""
    machine.answers('[ "$1" = is-active ] && echo inactive; exit 0')
    assert units.install(machine.settings, here)
    assert here.file.read_text() == units.text(machine.settings.data_dir, Path(sys.executable))
    assert here.file.stat().st_mode & 0o777 == 0o644
    assert machine.asked == ["is-active ondol.service", "daemon-reload", "enable --now ondol.service"]
    machine.answers('[ "$1" = is-active ] && echo active; exit 0')
    assert not units.install(machine.settings, here)
    assert machine.asked[-1] == "enable --now ondol.service"
    other = Settings(data_dir=machine.settings.data_dir.with_name("other"))
    assert units.install(other, here, start=False)
    assert machine.asked[-1] == "enable ondol.service"


def test_an_image_gets_the_unit_and_nothing_is_started(machine: Machine) -> None:
    """For another file system systemctl is only asked to enable it there."""
    assert units.install(machine.settings, machine.unit)
    root = machine.unit.root
    assert machine.asked == [f"--root {root} enable ondol.service"]
    report = units.report(machine.settings, machine.unit)
    assert (report.installed, report.current, report.enabled, report.active) == (True, True, "", "")
    assert units.uninstall(machine.unit)
    assert machine.asked == [f"--root {root} disable ondol.service"]
    assert not machine.unit.file.exists()
    assert not units.uninstall(machine.unit)


def test_uninstall_leaves_the_data(machine: Machine, here: Unit) -> None:
    """The service is stopped and forgotten; what it has kept is not looked at."""
    kept = machine.settings.data_dir / "store.db"
    kept.parent.mkdir()
    kept.touch()
    units.install(machine.settings, here)
    _ = machine.asked
    assert units.uninstall(here)
    assert machine.asked == ["disable --now ondol.service", "daemon-reload"]
    assert kept.exists()


def test_a_unit_of_somebody_else_is_left_alone(machine: Machine, here: Unit) -> None:
    """It is neither replaced nor removed, unless that is asked for."""
    here.file.parent.mkdir(parents=True)
    here.file.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(errors.HostError, match="not written by ondol"):
        units.install(machine.settings, here)
    with pytest.raises(errors.HostError, match="not written by ondol"):
        units.uninstall(here)
    assert machine.asked == []
    assert units.install(machine.settings, here, force=True)


def test_a_platform_that_runs_by_itself_is_not_started_twice(machine: Machine, here: Unit) -> None:
    """The service could not have its data directory; nothing is written."""
    instance = instances.load_or_create(machine.settings)
    with lock.hold(instance.lock_file), pytest.raises(errors.HostError, match="running on") as caught:
        units.install(machine.settings, here)
    assert "down --keep-pods" in caught.value.remedy
    assert not here.file.exists()


def test_what_systemctl_complains_of_is_passed_on(machine: Machine, here: Unit) -> None:
    """In its own words, with what was asked."""
    machine.answers('[ "$1" != enable ] || { echo "Unit is masked." >&2; exit 1; }')
    with pytest.raises(errors.HostError, match=r"systemctl enable --now ondol.service: Unit is masked\."):
        units.install(machine.settings, here)


def test_a_service_needs_root_and_systemd(
    machine: Machine, here: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lacks either is told what else there is."""
    monkeypatch.setattr(units, "_BOOTED", Path("/nonexistent"))
    with pytest.raises(errors.HostError, match="systemd does not run") as caught:
        units.install(machine.settings, here)
    assert "--print" in caught.value.remedy
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(errors.HostError, match="root's"):
        units.install(machine.settings, here)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä"])
def test_a_name_that_is_none_of_a_unit_is_refused(name: str) -> None:
    """It would be a path, or not be accepted by systemd."""
    with pytest.raises(errors.HostError, match="no name"):
        units.unit(name, None)

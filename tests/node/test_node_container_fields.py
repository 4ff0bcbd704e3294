"""What surrounds containers: files of images, variables in files, host names, mounts and groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.node.scene import IMAGE, Scene, is_ready, play, waits_for

from ondol.api.objects import Object
from ondol.node import linux, pod_spec, value_sources
from ondol.node.images import collecting, rootfs
from ondol.node.pods import env, env_files, etc, lifecycle, planning
from ondol.node.pods.model import Container, Record, Volume
from ondol.node.volumes import group_ownership, registry

LINES = """\
# what follows is for a shell
  FIRST='one # two'   # three

SPACED= 'lost'
LONG='a
b'
FIRST='again'
"""


@pytest.mark.parametrize(
    ("key", "outcome"),
    [("FIRST", "one # two"), ("SPACED", ""), ("LONG", "a\nb"), ("NONE", "")],
)
def test_variables_in_a_file(key: str, outcome: str) -> None:
    """In single quotes, literally; the first of a name counts."""
    assert env_files.value(LINES, key) == outcome


@pytest.mark.parametrize("line", ["A", "='x'", "A ='x'", "A=x", 'A="x"', "A='x", "A='x'y"])
def test_lines_that_are_no_variables(line: str) -> None:
    """What comes before them is read all the same."""
    assert env_files.value(f"GOOD='1'\n{line}\n", "GOOD") == "1"
    with pytest.raises(value_sources.ConfigMissing, match="couldn't parse env file"):
        env_files.value(f"GOOD='1'\n{line}\n", "B")


def keyed(**fields: Any) -> Object:
    reference = {"volumeName": "v", "path": "env", "key": "A", **fields}
    return {"name": "c", "env": [{"name": "X", "valueFrom": {"fileKeyRef": reference}}]}


def variables(container: Object, text: str) -> dict[str, str]:
    sources = value_sources.Sources(files={("v", "env"): text})
    facts = value_sources.PodFacts()
    return env.variables({}, container, sources=sources, facts=facts, services={})


def test_a_variable_that_is_missing_in_its_file() -> None:
    """It is left out where it is optional, else the container waits."""
    assert variables(keyed(), "A='1'") == {"X": "1"}
    assert variables(keyed(optional=True), "") == {}
    with pytest.raises(
        value_sources.ConfigMissing, match='environment variable key "A" not found in file "env"'
    ):
        variables(keyed(), "B='1'")


def test_files_of_variables_are_read_below_their_volume(tmp_path: Path) -> None:
    """No link leads out; a volume or file that is not there is told in words."""
    (tmp_path / "v").mkdir()
    (tmp_path / "env").write_text("A='outside'")
    (tmp_path / "v" / "env").symlink_to("../env")
    record = Record("u", "n", "p", "b", 0.0, volumes={"v": Volume({}, str(tmp_path / "v"), is_placed=True)})
    with pytest.raises(value_sources.ConfigMissing, match="couldn't parse env file"):
        env_files.read(record, keyed())
    (tmp_path / "v" / "env").unlink()
    (tmp_path / "v" / "env").write_text("A='inside'")
    assert env_files.read(record, keyed()) == {("v", "env"): "A='inside'"}
    with pytest.raises(
        value_sources.ConfigMissing, match='cannot find the volume "w" referenced by FileKeyRef'
    ):
        env_files.read(record, keyed(volumeName="w"))


def test_the_host_name_that_stands_for_all_others() -> None:
    """Whole and alone, in the kernel and in /etc/hosts."""
    spec = {"hostname": "a", "subdomain": "b", "hostnameOverride": "own.example"}
    pod = {"metadata": {"name": "p", "namespace": "n"}, "spec": spec}
    assert etc.kernel_name(pod, domain="cluster.local", host="host") == "own.example"
    assert etc.hosts(pod, "10.0.0.2", "cluster.local").splitlines()[-1] == "10.0.0.2\town.example"


@pytest.mark.parametrize(
    ("mode", "kernel", "outcome"),
    [
        (None, "6.1.0", False),
        ("Disabled", "6.1.0", False),
        ("Enabled", "5.12.0-generic", True),
        ("IfPossible", "5.12.0", True),
        ("IfPossible", "5.4.0-42", False),
    ],
)
def test_mounts_that_are_read_only_to_their_depths(mode: str | None, kernel: str, outcome: bool) -> None:
    """Where it is asked for and the kernel can."""
    mount = {"name": "v", "recursiveReadOnly": mode}
    assert planning.is_recursively_read_only(mount, kernel) is outcome


def test_a_kernel_that_cannot_make_depths_read_only() -> None:
    """A container that insists on it waits, in the kubelet's words."""
    words = 'volume "v" requested recursive read-only mode, but it is not supported by the runtime'
    with pytest.raises(value_sources.ConfigMissing, match=words):
        planning.is_recursively_read_only({"name": "v", "recursiveReadOnly": "Enabled"}, "5.11.0")


def test_how_volumes_are_mounted() -> None:
    """Those of images are never executed from; depths are named to the runtime."""
    image = registry.of({"name": "v", "image": {"reference": "i"}})
    assert planning.bind({"name": "v", "mountPath": "/v"}, "/s", image)["options"][-2:] == ["ro", "noexec"]
    empty = registry.of({"name": "v", "emptyDir": {}})
    deep = {"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}
    assert planning.bind(deep, "/s", empty)["options"][-1] == "rro"


@pytest.mark.root
def test_a_folder_that_is_the_groups_already(tmp_path: Path) -> None:
    """What is in it is left alone, if so asked; the folder itself is given last."""
    file = tmp_path / "file"
    file.touch()
    os.chown(tmp_path, -1, 4000)
    tmp_path.chmod(0o2770)
    group_ownership.give(tmp_path, 4000, only_on_mismatch=True)
    assert file.stat().st_gid != 4000
    tmp_path.chmod(0o770)
    group_ownership.give(tmp_path, 4000, only_on_mismatch=True)
    assert file.stat().st_gid == 4000
    assert tmp_path.stat().st_mode & 0o2770 == 0o2770


@pytest.mark.root
@pytest.mark.parametrize("count", [1, 2])
def test_the_files_of_an_image_as_a_volume(tmp_path: Path, count: int) -> None:
    """The upper layer's over the lower's, for reading alone; its layers are known to be in use."""
    layers = [tmp_path / "layers" / f"layer{number}" for number in range(count)]
    for layer in layers:
        layer.mkdir(parents=True)
        (layer / "file").write_text(layer.name)
    target = tmp_path / "volume"
    target.mkdir()
    rootfs.mount_read_only(target, layers)
    try:
        assert (target / "file").read_text() == layers[-1].name
        with pytest.raises(OSError, match="Read-only file system"):
            (target / "more").touch()
        in_use = collecting.mounted(Path("/proc/self/mountinfo").read_text())
        assert {layer.name for layer in layers} <= in_use
    finally:
        linux.unmount_all(str(target))


MOUNTED = {"name": "main", "image": "own:1", "volumeMounts": [{"name": "files", "mountPath": "/f"}]}
FILES = {"spec": {"containers": [MOUNTED], "volumes": [{"name": "files", "image": {"reference": "files:1"}}]}}


def test_a_container_waits_for_the_images_of_its_volumes() -> None:
    """For any of them that comes, it is tried again."""
    assert pod_spec.images(FILES, MOUNTED) == {"own:1", "files:1"}
    waiting = Container(waiting_reason="ErrImagePull", tried_image="own:1", retry_at=9.0)
    record = Record("u", "n", "p", "b", 0.0, containers={"main": waiting})
    assert lifecycle.image_arrived(FILES, record, {"other:1"}) == record
    assert lifecycle.image_arrived(FILES, record, {"files:1"}).container("main").retry_at == 0.0


def test_a_pod_whose_volume_is_an_image_that_comes_late() -> None:
    """It waits with the image's reason, and runs as soon as that is here."""

    async def scene(world: Scene) -> None:
        mounts = [{"name": "files", "mountPath": "/f"}]
        volumes = [{"name": "files", "image": {"reference": "late:1"}}]
        await world.pod(container={"image": IMAGE, "volumeMounts": mounts}, spec={"volumes": volumes})
        await world.until(lambda pod: waits_for(pod) == "ErrImagePull")
        await world.add_image("late:1")
        assert await world.until(is_ready) < 1.0

    play(scene)

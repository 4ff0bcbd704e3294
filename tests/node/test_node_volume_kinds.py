"""The kinds of volumes: what their files hold, how they are put in place, and how one is added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from tests.node.example_pod import FACTS, POD

import ondol.node.volumes
from ondol.api import resources, volume_kinds
from ondol.api.objects import Object, Resource
from ondol.apiserver import kinds
from ondol.apiserver.kinds.core import pod as pod_kind
from ondol.node.pods import planning
from ondol.node.volumes import registry, sub_path, written
from ondol.node.volumes.volume import (
    Elsewhere,
    File,
    Files,
    Inputs,
    Payload,
    Place,
    Plan,
    TokenRequest,
    VolumeFailed,
    Waits,
)


class Objects:
    """A lookup that has everything at hand."""

    def __init__(self, *objects: tuple[Resource, str, Object]) -> None:
        self._objects = {(resource, name): obj for resource, name, obj in objects}

    def get(self, resource: Resource, name: str) -> Object | None:
        return self._objects.get((resource, name))


def plan_of(
    volume: Object, lookup: Objects, pod: Object = POD, tokens: Mapping[TokenRequest, str] | None = None
) -> Plan:
    return registry.of(volume).resolve(Inputs(pod, lookup, FACTS, tokens or {}))


def files_of(*about: Any) -> Payload:
    plan = plan_of(*about)
    assert isinstance(plan, Files)
    return plan.content


def test_files_of_keys() -> None:
    """Keys, chosen items with modes, and what is missing without being optional."""
    sources = Objects((resources.CONFIG_MAP, "m", {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}))
    chosen = {"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "d/a", "mode": 0o400}]}}
    assert files_of(chosen, sources) == {"d/a": File(b"1", 0o400)}
    assert files_of({"name": "v", "configMap": {"name": "no", "optional": True}}, sources) == {}
    missing = plan_of({"name": "v", "configMap": {"name": "no"}}, sources)
    assert missing == Waits('configmap "no" not found')


def test_files_of_several_sources() -> None:
    """A projection names its Secret otherwise than a volume does; of two with one path the later wins."""
    sources = Objects(
        (resources.CONFIG_MAP, "m", {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}),
        (resources.SECRET, "s", {"kind": "Secret", "data": {"b": "Mw=="}}),
    )
    listed = [{"configMap": {"name": "m"}}, {"secret": {"name": "s"}}]
    volume = {"name": "v", "projected": {"sources": listed, "defaultMode": 0o440}}
    assert files_of(volume, sources) == {"a": File(b"1", 0o440), "b": File(b"3", 0o440)}
    assert files_of({"name": "v", "secret": {"secretName": "s"}}, sources) == {"b": File(b"3", 0o644)}


def place(folder: Path, revision: str) -> Place:
    return Place(folder, None, revision)


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
    (request,) = registry.token_requests(pod)
    assert files_of(volume, Objects(), pod, {request: "secret"}) == {"token": (b"secret", *written)}


def test_a_volume_is_swapped_whole(tmp_path: Path) -> None:
    """A new revision replaces all files at once; files that are no longer shown are removed."""
    folder = tmp_path / "v"
    both = {"a": File(b"1", 0o644), "b": File(b"1", 0o644)}
    assert written.write(place(folder, "1"), both)
    assert not written.write(place(folder, "2"), both)
    former = (folder / "..data").resolve()
    assert written.write(place(folder, "3"), {"a": File(b"2", 0o600)})
    assert (folder / "a").read_bytes() == b"2"
    assert not (folder / "b").exists()
    assert not former.exists()
    with pytest.raises(VolumeFailed, match="leads out"):
        written.write(place(folder, "4"), {"../x": File(b"", 0o644)})


def test_a_folder_in_the_place_of_a_late_file_gives_way(tmp_path: Path) -> None:
    """A subPath of a key that is not there yet is a folder; the key takes its place, other keys leave it."""
    folder = tmp_path / "v"
    written.write(place(folder, "1"), {})
    with sub_path.opened(folder, "late"):
        assert (folder / "late").is_dir()
    assert written.write(place(folder, "2"), {"other": File(b"1", 0o644)})
    assert (folder / "late").is_dir()
    assert written.write(place(folder, "3"), {"late": File(b"2", 0o644)})
    assert (folder / "late").read_bytes() == b"2"


WAITS: Final = Waits('configmap "absent" not found')


@pytest.mark.parametrize("name", volume_kinds.KINDS)
def test_every_supported_kind_has_its_module(name: str) -> None:
    """With a volume that answers to the whole protocol: what is listed as supported is there."""
    sources = {
        "hostPath": {"path": "/tmp"},
        "configMap": {"name": "absent"},
        "persistentVolumeClaim": {"claimName": "absent"},
    }
    source = sources.get(name, {"secretName": "s", "optional": True} if name == "secret" else {})
    volume = registry.of({"name": "v", name: source})
    assert volume.unsupported() == []
    assert isinstance(volume.is_read_only, bool)
    plan = volume.resolve(Inputs(POD, Objects(), FACTS))
    assert plan in (Files(), Elsewhere(Path("/tmp")), WAITS) or "persistentvolumeclaims" in str(plan)


@pytest.mark.parametrize("name", volume_kinds.PROJECTIONS)
def test_every_projection_has_its_function(name: str) -> None:
    """What is listed as a source of projected volumes can be put into one."""
    assert callable(registry.load(name).project)


@pytest.mark.parametrize(
    ("volume", "fields"),
    [
        ({"name": "v"}, []),
        ({"name": "v", "emptyDir": {"medium": "Memory"}}, []),
        ({"name": "v", "emptyDir": {"medium": "HugePages"}}, ["spec.volumes[v].emptyDir.medium=HugePages"]),
        ({"name": "v", "nfs": {"server": "s"}}, ["spec.volumes[v].nfs"]),
        (
            {"name": "v", "projected": {"sources": [{"secret": {}}, {"clusterTrustBundle": {"path": "p"}}]}},
            ["spec.volumes[v].projected.clusterTrustBundle"],
        ),
    ],
)
def test_what_is_not_supported_is_said(volume: Object, fields: list[str]) -> None:
    """By the node, which refuses the pod, and by the API server, which warns, of the same volumes."""
    pod = {"kind": "Pod", "spec": {"containers": [], "volumes": [volume]}}
    assert planning.unsupported(pod)[0] == fields
    assert bool(kinds.BUILTIN.unsupported(pod)) == bool(fields)


TOY = """
from ondol.node.volumes.volume import File
from ondol.node.volumes.written import WrittenVolume

class GitRepoVolume(WrittenVolume):
    def files(self, inputs):
        return {"HEAD": File(self.source["revision"].encode(), self.mode)}

KIND = GitRepoVolume
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kind of volume as a contributor adds it: one module, one line."""
    (tmp_path / "git_repo.py").write_text(TOY)
    monkeypatch.setattr(ondol.node.volumes, "__path__", [*ondol.node.volumes.__path__, str(tmp_path)])
    monkeypatch.setattr(volume_kinds, "KINDS", (*volume_kinds.KINDS, "gitRepo"))
    registry.load.cache_clear()
    yield
    registry.load.cache_clear()


@pytest.mark.usefixtures("toy")
def test_a_kind_is_added_by_a_module_and_a_line(tmp_path: Path) -> None:
    """The node then makes it and refuses it no more, and the API server does not warn of it."""
    source = {"name": "v", "gitRepo": {"repository": "r", "revision": "main"}}
    pod: Any = {**POD, "spec": {**POD["spec"], "volumes": [source]}}
    assert planning.unsupported(pod)[0] == []
    paths = {rule.path for rule in pod_kind.volume_rules(volume_kinds.KINDS)}
    assert "volumes[*].gitRepo" not in paths
    assert "volumes[*].nfs" in paths
    volume = registry.of(source)
    at = place(tmp_path / "pod" / "v", "1")
    volume.place(at, files_of(source, Objects(), pod))
    assert (at.folder / "HEAD").read_text() == "main"
    volume.remove(at.folder)
    assert not at.folder.exists()

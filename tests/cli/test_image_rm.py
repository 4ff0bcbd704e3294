"""`ondol image rm` and `prune`, and what a platform needs of the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ondol.api import resources as kinds
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.build import oci
from ondol.build.store import Image, ImageStore
from ondol.cli import connection, image_users, main
from ondol.client.client import ObjectList

_WEB = Image("ondol.local/web:1", "sha256:" + "a" * 64, 1)
_OTHER = Image("ondol.local/other:latest", "sha256:" + "b" * 64, 1)


def _pod(name: str, image: str = _WEB.reference, phase: str = "Running", **spec: Any) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": image}], **spec},
        "status": {"phase": phase},
    }


class _Api:
    """Stands for a client of a platform with these pods, or of one that does not answer."""

    def __init__(self, *pods: Object, error: Exception | None = None) -> None:
        self._pods = list(pods)
        self._error = error

    async def discover(self) -> Sequence[Resource]:
        return [kinds.POD, kinds.DEPLOYMENT, kinds.SECRET]

    async def list(self, resource: Resource) -> ObjectList:
        if self._error is not None:
            raise self._error
        return ObjectList([item for item in self._pods if item["kind"] == resource.kind], "1", "")

    async def aclose(self) -> None:
        return


def _remove(data_dir: Path, *flags: str) -> Result:
    words = ["image", "rm", "web:1", "--data-dir", str(data_dir), *flags]
    return CliRunner().invoke(main.app, words, catch_exceptions=False)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """The images of a platform: one, without layers."""
    store = ImageStore(tmp_path / "images")
    config = store.put(b"{}")
    described = {"digest": config, "size": 2, "mediaType": "application/json"}
    store.add("web:1", oci.canonical({"schemaVersion": 2, "config": described, "layers": []}))
    return store


def _platform(monkeypatch: pytest.MonkeyPatch, api: _Api) -> None:
    monkeypatch.setattr(connection, "to_platform", lambda _data_dir: api)


def test_a_used_image_is_refused(store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An image that pods use is kept, and they are named; so one can see whom it would hurt."""
    _platform(monkeypatch, _Api(_pod("a"), _pod("stranger", _OTHER.reference), _pod("b")))
    result = _remove(tmp_path)
    assert result.exit_code == 1
    assert result.stdout == ""
    problem, remedy = result.stderr.splitlines()
    assert problem == "error: ondol.local/web:1 is used by pod default/a, pod default/b"
    assert "--force" in remedy
    assert store.find("web:1") is not None


def test_many_users_are_counted(store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The line stays a line however many there are."""
    _platform(monkeypatch, _Api(*(_pod(f"p{number}") for number in range(8))))
    assert "pod default/p3, pod default/p4 and 3 more\n" in _remove(tmp_path).stderr


def test_force_asks_nobody(store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With `--force` a used image goes, even where the API server does not answer."""
    _platform(monkeypatch, _Api(_pod("a"), error=errors.Unavailable("refused")))
    assert _remove(tmp_path, "--force").exit_code == 0
    assert store.find("web:1") is None


def test_no_guess_when_the_api_does_not_answer(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A platform that runs but cannot be asked is no reason to remove what its pods may use."""
    _platform(monkeypatch, _Api(error=errors.Unavailable("connection refused")))
    result = _remove(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "error: the users of ondol.local/web:1 cannot be determined: connection refused\n  try: "
    )
    assert store.find("web:1") is not None


def test_without_a_platform_or_users(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where none runs, and where no pod uses it, an image goes as it is told to; once."""
    assert _remove(tmp_path).exit_code == 0
    assert _remove(tmp_path).exit_code == 4
    store.add("web:1", oci.canonical({"config": {"digest": store.put(b"{}"), "size": 2}, "layers": []}))
    _platform(monkeypatch, _Api(_pod("stranger", _OTHER.reference)))
    assert _remove(tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("pod", "used"),
    [
        (_pod("a"), True),
        (_pod("a", phase="Pending"), True),
        (_pod("a", phase="Succeeded"), False),
        (_pod("a", phase="Failed"), False),
        (_pod("a", "ondol.local/web:2"), False),
        (_pod("a", "ondol.local/web"), False),
        (_pod("a", f"ondol.local/web@{_WEB.digest}"), True),
        (_pod("a", _OTHER.reference, initContainers=[{"name": "i", "image": _WEB.reference}]), True),
    ],
)
def test_who_uses_an_image(pod: Object, used: bool) -> None:
    """Any container that names it, by tag or digest, of a pod that has not finished."""
    assert image_users.uses(pod, _WEB, [_WEB, _OTHER]) is used


def test_names_mean_what_they_mean_to_the_node() -> None:
    """A short name finds what the node would find; an image of two names is not lost with one."""
    library = Image("docker.io/library/python:latest", "sha256:" + "c" * 64, 1)
    assert image_users.uses(_pod("a", "python"), library, [library])
    assert not image_users.uses(_pod("a", "ondol.local/python"), library, [library])
    twin = Image("ondol.local/twin:latest", _WEB.digest, 1)
    assert not image_users.uses(_pod("a", f"web@{_WEB.digest}"), _WEB, [_WEB, twin])
    assert image_users.uses(_pod("a"), _WEB, [_WEB, twin])


def _template(kind: str, image: str) -> Object:
    spec = {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}
    return {"kind": kind, "metadata": {"name": "front", "namespace": "default"}, "spec": spec}


def test_a_service_at_zero_needs_its_image(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What has a template of pods but no pod now keeps its image, however it spells the name."""
    _platform(monkeypatch, _Api(_template("Deployment", "web:1")))
    result = _remove(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ondol.local/web:1 is used by deployment default/front\n")


def test_prune_keeps_what_has_a_name(store: ImageStore, tmp_path: Path) -> None:
    """Without `--all` only what no image needs goes; no platform is asked."""
    stray = store.put(b"of an earlier build")
    result = CliRunner().invoke(main.app, ["image", "prune", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert not store.has(stray)
    assert store.find("web:1") is not None


def test_prune_all_takes_what_nothing_needs(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Images of pods and templates stay; without a platform to ask nothing is taken on a guess."""
    store.add("old:1", oci.canonical({"config": {"digest": store.put(b"{ }"), "size": 3}, "layers": []}))
    words = ["image", "prune", "--all", "--data-dir", str(tmp_path)]
    assert CliRunner().invoke(main.app, words).exit_code == 3
    never_started = _pod("refused", "old:1", phase="Failed")
    _platform(monkeypatch, _Api(_template("Deployment", "web:1"), never_started))
    result = CliRunner().invoke(main.app, words, catch_exceptions=False)
    assert result.stdout.splitlines()[0] == "ondol.local/old:1 removed"
    assert [image.reference for image in store.images()] == ["ondol.local/web:1"]


@pytest.mark.parametrize("field", ["containerStatuses", "initContainerStatuses"])
def test_prune_all_keeps_the_images_of_containers_that_have_ended(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str
) -> None:
    """As for the kubelet a completed pod uses what its containers ran, and not what bears the name now."""
    ran = store.add(
        "old:1", oci.canonical({"config": {"digest": store.put(b"{ }"), "size": 3}, "layers": []})
    )
    pod = _pod("done", "web:1", phase="Succeeded")
    pod["status"][field] = [{"name": "main", "image": "web:1", "imageID": f"ondol.local/web@{ran.digest}"}]
    _platform(monkeypatch, _Api(pod))
    words = ["image", "prune", "--all", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(main.app, words, catch_exceptions=False)
    assert result.stdout.splitlines()[0] == "ondol.local/web:1 removed"
    assert [image.reference for image in store.images()] == ["ondol.local/old:1"]

"""Images in and out: layouts, archives, what Docker writes, and archives that lie."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ondol.build import image, oci, transfer
from ondol.build.errors import BuildError, StoreError
from ondol.build.store import ImageStore

LAYER = b"a layer: its bytes are not looked at"


def _tar(target: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(target, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target


def _config(layer: bytes = LAYER) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [oci.digest(layer)]}
    return oci.canonical({"architecture": oci.architecture(), "os": "linux", "config": {}, "rootfs": rootfs})


def _docker(tags: list[str] | None, layer: bytes = LAYER, packed: bytes | None = None) -> dict[str, bytes]:
    """What `docker save` wrote before version 25."""
    entry = {"Config": "abc.json", "RepoTags": tags, "Layers": ["1/layer.tar"]}
    content = packed if packed is not None else layer
    return {
        "1/layer.tar": content,
        "abc.json": _config(layer),
        "manifest.json": json.dumps([entry]).encode(),
    }


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _layout(name: str = "", **changes: Any) -> dict[str, bytes]:
    """A layout of one image; `index` or `manifest` in `changes` replace fields of those documents."""
    config = _config()
    manifest = json.loads(oci.manifest(config, [oci.Layer(oci.digest(LAYER), len(LAYER), "")], {}))
    text = oci.canonical({**manifest, **changes.get("manifest", {})})
    annotations = {"annotations": {oci.REF_NAME: name}} if name else {}
    entry = {**oci.descriptor(oci.MANIFEST, oci.digest(text), len(text)), **annotations}
    index = {"schemaVersion": 2, "manifests": [entry], **changes.get("index", {})}
    blobs = {_blob(oci.digest(content)): content for content in (LAYER, config, text)}
    return {"oci-layout": b"{}", "index.json": oci.canonical(index), **blobs}


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.mark.parametrize(
    ("tag", "reference"),
    [
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("me/app:2", "docker.io/me/app:2"),
        ("quay.io/org/app:v3", "quay.io/org/app:v3"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("ondol.local/web:1", "ondol.local/web:1"),
    ],
)
def test_docker_archives(tmp_path: Path, store: ImageStore, tag: str, reference: str) -> None:
    """Names are Docker's: one without a host is of Docker Hub."""
    [loaded] = transfer.load(_tar(tmp_path / "a.tar", _docker([tag])), store)
    assert loaded.reference == reference
    assert store.blob(oci.digest(LAYER)).read_bytes() == LAYER
    assert store.verify() == []


def test_packed_layers_and_archives(tmp_path: Path, store: ImageStore) -> None:
    """A gzipped layer is kept as what the configuration says of it; the archive may be gzipped too."""
    plain = _tar(tmp_path / "a.tar", _docker(["app:1"], packed=gzip.compress(LAYER)))
    (tmp_path / "a.tgz").write_bytes(gzip.compress(plain.read_bytes()))
    [loaded] = transfer.load(tmp_path / "a.tgz", store)
    assert store.manifest(loaded.digest)["layers"][0]["digest"] == oci.digest(LAYER)


def test_layouts_as_folders_and_archives(tmp_path: Path, store: ImageStore) -> None:
    """Both forms give the same image, under the name in the index or the one asked for."""
    files = _layout("quay.io/org/app:1")
    for name, content in files.items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(content)
    [one] = transfer.load(tmp_path / "layout", store)
    [two] = transfer.load(_tar(tmp_path / "a.tar", files), store, reference="other:2")
    assert (one.reference, two.reference) == ("quay.io/org/app:1", "ondol.local/other:2")
    assert one.digest == two.digest


def test_this_machines_image_is_chosen_of_several(tmp_path: Path, store: ImageStore) -> None:
    """An index of several platforms; one that is not in the archive is passed over."""
    files = _layout()
    ours = json.loads(files["index.json"])["manifests"][0]
    platforms = [
        {**ours, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "other"}},
        {**ours, "platform": {"os": "linux", "architecture": oci.architecture()}},
    ]
    several = oci.canonical({"schemaVersion": 2, "manifests": platforms})
    described = oci.descriptor(oci.INDEX, oci.digest(several), len(several))
    entry = {**described, "annotations": {oci.REF_NAME: "a/b:1"}}
    files |= {
        _blob(oci.digest(several)): several,
        "index.json": oci.canonical({"manifests": [entry]}),
    }
    [loaded] = transfer.load(_tar(tmp_path / "a.tar", files), store)
    assert loaded.digest == ours["digest"]


_WRONG = hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x": b""}, "neither an OCI image layout nor"),
        (_docker(None), "does not name the image"),
        (_layout(), "does not name the image"),
        (_layout("latest"), "does not name the image"),
        ({**_docker(["a:1"]), "1/layer.tar": b"other"}, "layer.tar in the archive does not match its digest"),
        ({**_layout("a/b:1"), _blob(oci.digest(LAYER)): b"other"}, "does not match its digest"),
        ({k: v for k, v in _layout("a/b:1").items() if v != LAYER}, "the archive has no blobs/sha256/"),
        ({**_docker(["a:1"]), "manifest.json": b"{"}, "manifest.json in the archive is not JSON"),
        (_layout("a/b:1", index={"manifests": [{"mediaType": "text/plain", "digest": "x"}]}), "media type"),
        (_layout("a/b:1", manifest={"config": {"digest": f"sha256:{_WRONG}"}}), "the archive has no"),
        (_layout("a/b:1", manifest={"config": {"digest": "sha256:../../etc/passwd"}}), "not a sha256 digest"),
        ({**_docker(["Not A Name"])}, "is not an image reference"),
        ({"manifest.json": b'{"schemaVersion": 2, "layers": []}'}, "neither an OCI image layout nor"),
        ({"manifest.json": b'[{"Layers": []}]'}, "is not a valid image"),
        ({"index.json": b"[]"}, "is not a valid image"),
        (_layout("a/b:1", manifest={"layers": None}), "is not a valid image"),
    ],
)
def test_archives_that_are_refused(
    tmp_path: Path, store: ImageStore, files: dict[str, bytes], message: str
) -> None:
    """Each is told, and leaves no image behind."""
    with pytest.raises((BuildError, StoreError), match=message):
        transfer.load(_tar(tmp_path / "a.tar", files), store)
    assert store.images() == []
    store.garbage_collect()
    assert not any((store.directory / "blobs" / "sha256").iterdir())


def test_what_is_no_archive(tmp_path: Path, store: ImageStore) -> None:
    """A text, a torn archive and one that is packed in halves are one line each."""
    (tmp_path / "text").write_text("hello")
    whole = _tar(tmp_path / "whole.tar", _docker(["a:1"])).read_bytes()
    (tmp_path / "torn.tgz").write_bytes(gzip.compress(whole)[:-20])
    for name in ("text", "torn.tgz"):
        with pytest.raises(BuildError, match="cannot be read"):
            transfer.load(tmp_path / name, store)


@pytest.mark.parametrize("layer", [LAYER, bytes(20 << 20)], ids=["archive", "layer"])
def test_an_archive_does_not_fill_the_disk(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch, layer: bytes
) -> None:
    """Kilobytes may unpack to any size; where little of the disk would be left, nothing stays of it."""
    monkeypatch.setattr("ondol.base.sparing._SHARE_LEFT", 0)  # as if the last twentieth had begun
    files = _docker(["app:1"], packed=gzip.compress(layer))
    if layer is LAYER:
        files["filler"] = bytes(20 << 20)
    packed = gzip.compress(_tar(tmp_path / "a.tar", files).read_bytes())
    (tmp_path / "a.tgz").write_bytes(packed)
    with pytest.raises((BuildError, StoreError), match="less than a twentieth of the disk free"):
        transfer.load(tmp_path / "a.tgz", store)
    assert list((store.directory / "blobs" / "sha256").iterdir()) == []


def test_out_and_in_again(tmp_path: Path, images: ImageStore, store: ImageStore) -> None:
    """An exported image comes back with the same digest, through either side of the archive."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print('hello')\n")
    built = image.build(tmp_path / "app", "there:1", images)
    with (tmp_path / "out.tar").open("wb") as file:
        transfer.save("there:1", images, file)
    [loaded] = transfer.load(tmp_path / "out.tar", store)
    assert (loaded.reference, loaded.digest) == ("ondol.local/there:1", built.digest)
    with tarfile.open(tmp_path / "out.tar") as tar:
        tar.extractall(tmp_path / "both", filter="data")
    (tmp_path / "both" / "index.json").unlink()
    other = ImageStore(tmp_path / "other")
    [docker] = transfer.load(tmp_path / "both", other)
    assert other.manifest(docker.digest)["layers"] == store.manifest(loaded.digest)["layers"]


def test_skopeo_reads_and_writes_the_same(tmp_path: Path, images: ImageStore, store: ImageStore) -> None:
    """The real tool takes what is exported and writes what is imported, in all three forms."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: apt-get install skopeo")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print('hello')\n")
    image.build(tmp_path / "app", "there:1", images)
    with (tmp_path / "out.tar").open("wb") as file:
        transfer.save("there:1", images, file)
    for form in ("oci-archive", "docker-archive"):
        source = f"{form}:{tmp_path / 'out.tar'}"
        for target in (f"oci:{tmp_path / form}:quay.io/a/b:1", f"docker-archive:{tmp_path / form}.tar:a/b:1"):
            command = ["skopeo", "--insecure-policy", "copy", "--quiet", source, target]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        [from_layout] = transfer.load(tmp_path / form, store)
        [from_docker] = transfer.load(tmp_path / f"{form}.tar", store)
        assert from_layout.reference == "quay.io/a/b:1"
        assert from_docker.reference == "docker.io/a/b:1"
    assert store.verify() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest": {"layers": [{"digest": oci.digest(LAYER), "size": "much"}]}},
        {"manifest": {"layers": [{"digest": oci.digest(LAYER), "size": 1, "mediaType": 5}]}},
        {"manifest": {"layers": {}}},
        {"manifest": {"layers": ["x"]}},
        {"manifest": {"config": "x"}},
        {"index": {"manifests": ["x"]}},
        {"index": {"manifests": [{"mediaType": oci.MANIFEST}]}},
        {"index": {"manifests": 5}},
    ],
)
def test_documents_that_are_not_of_an_image_are_refused(
    store: ImageStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """With a reason, and before anything has a name: whoever lists images reads them all."""
    archive = _tar(tmp_path / "bad.tar", _layout("app:1", **changes))
    with pytest.raises(BuildError, match="is not a valid image"):
        transfer.load(archive, store)
    assert store.images() == []


@pytest.mark.parametrize("entry", ["x", {}, {"Config": "abc.json"}, {"Config": "abc.json", "Layers": []}])
def test_dockers_documents_that_are_not_of_an_image_are_refused(
    store: ImageStore, tmp_path: Path, entry: Any
) -> None:
    """As those of a layout are."""
    files = {**_docker(["app:1"]), "manifest.json": json.dumps([entry]).encode()}
    with pytest.raises(BuildError, match="is not a valid image"):
        transfer.load(_tar(tmp_path / "bad.tar", files), store)


def test_documents_without_an_end_are_refused(store: ImageStore, tmp_path: Path) -> None:
    """Ones that are nested too deep to read, and an index that leads to itself."""
    itself = {"mediaType": oci.INDEX, "digest": "sha256:loop"}
    ours = {**itself, "platform": {"os": "linux", "architecture": oci.architecture()}}
    loop = {
        "index.json": json.dumps({"manifests": [itself]}).encode(),
        "blobs/sha256/loop": json.dumps({"manifests": [ours]}).encode(),
    }
    for files in ({"index.json": b"[" * 100_000}, {"manifest.json": b"[" * 100_000}, loop):
        with pytest.raises(BuildError, match="is not a valid image"):
            transfer.load(_tar(tmp_path / "bad.tar", files), store)

"""The image store: names, blobs, locks, what a crash leaves, what garbage collection takes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ondol.build import oci
from ondol.build.errors import BuildError, StoreError
from ondol.build.reference import full
from ondol.build.store import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def _add(store: ImageStore, name: str, content: bytes = b"layer") -> str:
    layer = oci.Layer(store.put(content), len(content), "test")
    config = b'{"config":{}}'
    store.put(config)
    return store.add(name, oci.manifest(config, [layer], {})).digest


def test_the_layout_is_an_oci_layout(store: ImageStore) -> None:
    """Other tools find the version file, the index and each blob under its digest."""
    digest = _add(store, "shop/cart:v1")
    assert json.loads((store.directory / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads((store.directory / "index.json").read_bytes())["manifests"][0]
    assert entry["annotations"] == {oci.REF_NAME: "ondol.local/shop/cart:v1"}
    assert entry["digest"] == digest
    blob = store.directory / "blobs" / "sha256" / digest.removeprefix("sha256:")
    assert oci.digest(blob.read_bytes()) == digest
    assert entry["size"] == blob.stat().st_size


def test_names_are_listed_tagged_and_removed(store: ImageStore) -> None:
    """A second name costs nothing; removing one leaves the other."""
    digest = _add(store, "cart")
    store.tag("cart", "ghcr.io/shop/cart:v2")
    assert [(i.reference, i.digest) for i in store.images()] == [
        ("ghcr.io/shop/cart:v2", digest),
        ("ondol.local/cart:latest", digest),
    ]
    assert store.remove("cart")
    assert not store.remove("cart")
    assert store.find("cart") is None
    image = store.find("ghcr.io/shop/cart:v2")
    assert image is not None
    assert image.size_bytes == len(b"layer")


def test_a_name_of_another_tool_is_found_and_removed(store: ImageStore) -> None:
    """Skopeo and buildah write into the index what they were given, without a host."""
    digest = _add(store, "cart:v1")
    index = store.directory / "index.json"
    index.write_text(index.read_text().replace("ondol.local/cart:v1", "cart:v1"))
    image = store.find("cart:v1")
    assert image is not None
    assert (image.reference, image.digest) == ("cart:v1", digest)
    assert store.remove("cart:v1")
    assert store.images() == []


def test_tagging_what_is_not_there_is_told(store: ImageStore) -> None:
    """An unknown source is an error that names it."""
    with pytest.raises(StoreError, match="no image ondol"):
        store.tag("nothing", "something")


def test_a_manifest_without_its_blobs_is_not_named(store: ImageStore) -> None:
    """The index never names an image that could not be run."""
    missing = oci.Layer("sha256:" + "0" * 64, 1, "gone")
    with pytest.raises(StoreError, match="is not in the store"):
        store.add("broken", oci.manifest(b"{}", [missing], {}))
    assert store.images() == []


def test_a_draft_that_fails_leaves_nothing(store: ImageStore) -> None:
    """An error while a blob is written leaves neither blob nor file."""
    before = sorted(store.directory.rglob("*"))

    def fail() -> None:
        with store.draft() as draft:
            draft.write(b"half")
            raise RuntimeError("disk gone")

    with pytest.raises(RuntimeError, match="disk gone"):
        fail()
    assert sorted(store.directory.rglob("*")) == before


def test_a_full_disk_is_told_and_leaves_nothing(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit on the disk is an error with a remedy; the store is as it was."""
    before = sorted(store.directory.rglob("*"))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        store.put(b"too much")
    assert "df -h" in caught.value.remedy
    assert sorted(store.directory.rglob("*")) == before


def test_garbage_collection_takes_what_nobody_names(store: ImageStore) -> None:
    """Unnamed blobs, torn drafts and records of lost layers go; what an image needs stays."""
    _add(store, "kept", b"kept layer")
    _add(store, "gone", b"gone layer")
    store.remember("base-1", {"digest": oci.digest(b"kept layer"), "size": 10})
    store.remember("base-2", {"digest": oci.digest(b"gone layer"), "size": 10})
    (store.directory / "blobs" / "sha256" / ".draft-torn").write_bytes(b"half a layer")
    store.remove("gone")
    collected = store.garbage_collect()
    # the layer, its manifest and the draft; both images share one configuration
    assert collected.blobs == 3
    assert store.has(oci.digest(b"kept layer"))
    assert not store.has(oci.digest(b"gone layer"))
    assert store.remembered("base-1") is not None
    assert store.remembered("base-2") is None
    assert store.verify() == []
    assert store.garbage_collect().blobs == 0


def test_verify_finds_damage_and_says_who_is_hurt(store: ImageStore) -> None:
    """A changed blob and a missing one are both found, with the images that need them."""
    _add(store, "one", b"first layer")
    _add(store, "two", b"second layer")
    changed, missing = (store.blob(oci.digest(c)) for c in (b"first layer", b"second layer"))
    changed.write_bytes(b"fIrst layer")
    missing.unlink()
    problems = {damage.references: damage.problem for damage in store.verify()}
    assert problems == {
        ("ondol.local/one:latest",): "its bytes have another digest",
        ("ondol.local/two:latest",): "missing",
    }


def test_a_damaged_manifest_is_still_listed_and_stops_collection(store: ImageStore) -> None:
    """Nothing is removed on a guess: the user sees the image, verifies it, removes it."""
    digest = _add(store, "hurt")
    store.blob(digest).write_bytes(b"{}")
    assert [image.reference for image in store.images()] == ["ondol.local/hurt:latest"]
    assert [damage.digest for damage in store.verify()] == [digest]
    with pytest.raises(StoreError, match="damaged"):
        store.garbage_collect()
    assert store.remove("hurt")
    assert store.garbage_collect().blobs == 3


def test_a_broken_index_is_told(store: ImageStore) -> None:
    """An index that is no JSON is an error with a remedy, and is not overwritten."""
    (store.directory / "index.json").write_text("{")
    with pytest.raises(StoreError, match="not an OCI index") as caught:
        store.images()
    assert "restore or remove" in caught.value.remedy
    with pytest.raises(StoreError):
        _add(store, "new")
    assert (store.directory / "index.json").read_text() == "{"


_WORKER = """
import sys
from pathlib import Path
from ondol.build import oci
from ondol.build.store import ImageStore
store = ImageStore(Path(sys.argv[1]))
for number in range(10):
    content = f"{sys.argv[2]} {number}".encode()
    layer = oci.Layer(store.put(content), len(content), "test")
    store.put(b"{}")
    store.add(f"w{sys.argv[2]}/i{number}", oci.manifest(b"{}", [layer], {}))
"""


def test_builds_at_once_lose_no_name(store: ImageStore) -> None:
    """Processes that add images at the same time all find theirs in the index."""
    command = [sys.executable, "-c", _WORKER, str(store.directory)]
    workers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    assert len(store.images()) == 30
    assert store.verify() == []


def test_a_file_in_the_stores_place_is_told(tmp_path: Path) -> None:
    """A path that cannot be a folder is an error that names it."""
    (tmp_path / "images").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be opened"):
        ImageStore(tmp_path / "images")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cart", "ondol.local/cart:latest"),
        ("shop/cart:v1", "ondol.local/shop/cart:v1"),
        ("ondol.local/shop/cart", "ondol.local/shop/cart:latest"),
        ("GHCR.io/me/app:1.0", "ghcr.io/me/app:1.0"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry:5000/app:x", "registry:5000/app:x"),
    ],
)
def test_references_are_made_full(text: str, expected: str) -> None:
    """Host and tag are added where they are missing, and nothing changes the second time."""
    assert full(text) == expected
    assert full(expected) == expected


@pytest.mark.parametrize("text", ["", "Cart", "a//b", "cart:v 1", "-x", "cart@sha256:00", "a" * 300])
def test_wrong_references_are_refused(text: str) -> None:
    """What no image could be called is an error, not a strange name."""
    with pytest.raises(BuildError, match="not an image reference"):
        full(text)

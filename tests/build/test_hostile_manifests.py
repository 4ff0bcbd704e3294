"""Manifests that were made to hurt whoever keeps them: by what they name, and by how much of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from ondol.build import manifests, oci
from ondol.build.errors import NotManifest, StoreError
from ondol.build.store import ImageStore

_NONE: Final = f"sha256:{'0' * 64}"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def _manifest(store: ImageStore, **changes: Any) -> dict[str, Any]:
    config = oci.descriptor(oci.CONFIG, store.put(b"{}"), 2)
    return {"mediaType": oci.MANIFEST, "config": config, "layers": [], **changes}


def _index(*digests: str) -> bytes:
    entries = [oci.descriptor(oci.MANIFEST, digest, 1) for digest in digests]
    return json.dumps({"mediaType": oci.INDEX, "manifests": entries}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"manifest"',
        b"[" * 100_000,
        b'{"manifests": {}}',
        b'{"manifests": ["x"]}',
        b'{"manifests": [{"digest": "sha256:../../x"}]}',
        b'{"layers": []}',
        b'{"config": [], "layers": []}',
    ],
)
def test_what_is_no_manifest_gets_no_name(store: ImageStore, text: bytes) -> None:
    """Not JSON, too deep, of another shape, or with a digest that is a path: refused before it is kept."""
    with pytest.raises(NotManifest):
        store.add("app:1", text)
    assert store.images() == []
    assert store.garbage_collect().blobs == 0


@pytest.mark.parametrize(
    "layer",
    [
        {"digest": _NONE, "size": "1"},
        {"digest": _NONE, "size": -1},
        {"digest": _NONE, "size": 1.5},
        {"digest": _NONE.upper(), "size": 1},
        {"digest": "sha512:" + "0" * 128, "size": 1},
        {"size": 1},
        None,
    ],
)
def test_a_layer_must_be_described(store: ImageStore, layer: Any) -> None:
    """A size or digest of another type would break every list of images."""
    with pytest.raises(NotManifest):
        store.add("app:1", json.dumps(_manifest(store, layers=[layer])).encode())


def test_an_index_may_name_what_is_no_manifest(store: ImageStore) -> None:
    """It is kept as any blob; listing, verifying and collecting go on, and nothing is followed."""
    layer, large = store.put(b"a layer, not JSON"), store.put(bytes(manifests.BYTES_MAX + 1))
    store.add("app:1", _index(layer, large, _NONE))
    assert [image.size_bytes for image in store.images()] == [0]
    assert store.garbage_collect().blobs == 0
    assert store.verify() == []
    assert store.has(layer)


def test_indexes_that_name_each_other_over_and_over_are_walked_once(store: ImageStore) -> None:
    """Thirty steps of two ways each would be a thousand million walks."""
    digest = store.put(json.dumps(_manifest(store)).encode())
    for _ in range(30):
        twin = store.put(_index(digest) + b" ")
        digest = store.put(_index(digest, twin, digest))
    text = _index(digest)
    store.add("app:1", text)
    assert len(store.images()) == 1
    assert store.garbage_collect().blobs == 0


def test_a_layer_that_is_nobodys_to_have_need_not_be_here(store: ImageStore) -> None:
    """Layers that are not distributed are named by address; an image with them may be kept all the same."""
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    image = store.add("app:1", json.dumps(_manifest(store, layers=[oci.descriptor(kind, _NONE, 7)])).encode())
    assert image.size_bytes == 7
    assert store.verify() == []
    with pytest.raises(StoreError, match="is not in the store"):
        store.add("b", json.dumps(_manifest(store, layers=[oci.descriptor(oci.LAYER, _NONE, 7)])).encode())


def test_a_damaged_manifest_still_stops_the_collection(store: ImageStore) -> None:
    """What an index names here and is not what its digest says may need any blob: nothing is guessed."""
    inner = store.put(json.dumps(_manifest(store)).encode())
    store.add("app:1", _index(inner))
    store.blob(inner).write_bytes(b"{}")
    with pytest.raises(StoreError, match="damaged"):
        store.garbage_collect()


def test_a_layer_is_not_read_as_a_configuration(store: ImageStore) -> None:
    """An image may name any blob that is here as its configuration, also one of gigabytes."""
    large = store.blob(_NONE)
    with large.open("wb") as file:
        file.truncate(1 << 40)
    image = store.add("app:1", json.dumps(_manifest(store, config={"digest": _NONE, "size": 2})).encode())
    with pytest.raises(StoreError, match="too large for a document"):
        store.config(image.digest)

"""Images that were made to hurt the node: what they may take of its memory, its time and its locks."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import threading
import tracemalloc
from pathlib import Path
from typing import Final

import pytest

from ondol.node.images import layers as layers_module
from ondol.node.images.layers import Layers
from ondol.node.images.store import REF_NAME, ImageCorrupt, ImageStore, Layer

_MANY: Final = 8000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners of files")


def _entries(count: int) -> bytes:
    """A layer with one empty file, so many times: each takes half a kilobyte, and packed next to nothing."""
    member = tarfile.TarInfo("again").tobuf()
    return gzip.compress(member * count + bytes(1024), 1, mtime=0)


def _layer(root: Path, content: bytes) -> Layer:
    digest = hashlib.sha256(content).hexdigest()
    folder = root / "blobs/sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / digest).write_bytes(content)
    return Layer(f"sha256:{digest}", "", len(content))


def test_entries_without_number_take_no_memory(tmp_path: Path) -> None:
    """What is remembered of a layer's entries does not grow with them."""
    layer = _layer(tmp_path / "images", _entries(_MANY))
    layers = Layers(tmp_path / "layers", ImageStore(tmp_path / "images"))
    tracemalloc.start()
    try:
        layers.unpack(layer)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < _MANY * 256  # an entry that is remembered takes more
    assert [path.name for path in layers.path(layer.digest).iterdir()] == ["again"]


def test_entries_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that replaces the same file for ever is left, and nothing of it stays."""
    monkeypatch.setattr(layers_module, "_ENTRIES_MAX", 10)
    layers = Layers(tmp_path / "layers", ImageStore(tmp_path / "images"))
    layers.unpack(_layer(tmp_path / "images", _entries(10)))
    with pytest.raises(ImageCorrupt, match="more than 10 entries"):
        layers.unpack(_layer(tmp_path / "images", _entries(11)))
    assert len(list(layers.root.iterdir())) == 1


def test_a_layer_that_takes_for_ever_holds_up_no_other(tmp_path: Path) -> None:
    """While one is being unpacked, others are."""
    root = tmp_path / "images"
    slow, quick = Layer(f"sha256:{'0' * 64}", "", 0), _layer(root, _entries(1))
    pipe = root / "blobs/sha256" / ("0" * 64)
    os.mkfifo(pipe)
    layers = Layers(tmp_path / "layers", ImageStore(root))
    refusals: list[ImageCorrupt] = []

    def unpack() -> None:
        try:
            layers.unpack(slow)
        except ImageCorrupt as error:
            refusals.append(error)

    thread = threading.Thread(target=unpack)
    thread.start()
    writer = os.open(pipe, os.O_WRONLY)  # returns when the other side has begun
    try:
        assert layers.unpack(quick).is_dir()
        assert thread.is_alive()
    finally:
        os.close(writer)
        thread.join()
    assert refusals


@pytest.mark.parametrize("part", ["manifest", "config"])
def test_a_layer_that_is_called_a_document_is_not_read_whole(tmp_path: Path, part: str) -> None:
    """An image may name any blob that is here, also one of gigabytes, as what is read into memory."""
    root = tmp_path / "images"
    large = root / "blobs/sha256" / ("1" * 64)
    large.parent.mkdir(parents=True)
    with large.open("wb") as file:
        file.truncate(1 << 40)
    digest = f"sha256:{'1' * 64}"
    if part == "config":
        manifest = json.dumps({"config": {"digest": digest}, "layers": []}).encode()
        digest = _layer(root, manifest).digest
    entry = {"digest": digest, "annotations": {REF_NAME: "app:1"}}
    (root / "index.json").write_text(json.dumps({"manifests": [entry]}))
    with pytest.raises(ImageCorrupt, match="too large for a document"):
        ImageStore(root).resolve("app:1")
    assert ImageStore(root).stored() == []

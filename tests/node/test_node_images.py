"""Images on the node: names, layers, whiteouts, damage, and the stacked root."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ondol.base import errors
from ondol.node import linux
from ondol.node.images import images, rootfs
from ondol.node.images.layers import Layers
from ondol.node.images.store import ImageCorrupt, ImageMissing, ImageStore, Layer, repository, spellings

Layout = Callable[[str], Any]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: devices, owners and mounts")


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1, mtime=0)


def file(name: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.mode = mode
    return member, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("app", ""),
        ("App.example:5000/me/app_1.x-y:V1", ""),
        ("[::1]:5000/app", ""),
        (f"app:1@sha256:{'0' * 64}", ""),
        (f"{'a' * 256}:1", "more than 255 characters"),
        ("me/App", "must be lowercase"),
        ("foo:bar:baz", "invalid reference format"),
        ("app:", "invalid reference format"),
        ("", "invalid reference format"),
        (" app", "invalid reference format"),
        ("https://example.com/app", "invalid reference format"),
        ("app@sha256:12", "invalid reference format"),
    ],
)
async def test_names_no_image_can_have(tmp_path: Path, reference: str, reason: str) -> None:
    """Said at once, and not looked for."""
    with pytest.raises(images.ImageUnavailable) as raised:
        await images.Images(tmp_path).ensure(reference, "IfNotPresent")
    assert raised.value.reason == ("InvalidImageName" if reason else "ErrImagePull")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("reason", "failures", "told"),
    [
        (
            "ErrImagePull",
            1,
            [("Failed", 'Failed to pull image "app": why'), ("Failed", "Error: ErrImagePull")],
        ),
        ("ErrImageNeverPull", 2, [("ErrImageNeverPull", "why"), ("Failed", "Error: ErrImageNeverPull")]),
        ("InvalidImageName", 2, [("InspectFailed", "why"), ("Failed", "Error: InvalidImageName")]),
    ],
)
def test_how_the_lack_of_an_image_is_told(reason: str, failures: int, told: list[tuple[str, str]]) -> None:
    """By the waiting reason, whose message says why, and the kubelet's events."""
    found = images.refusal("app", images.ImageUnavailable(reason, "why"), failures=failures)
    assert (found.reason, found.message, list(found.warnings), found.note) == (reason, "why", told, None)


def test_a_second_try_is_backed_off_from() -> None:
    """The message still says why the image could not be had."""
    found = images.refusal("app", images.ImageUnavailable("ErrImagePull", "why"), failures=2)
    assert found == images.Refusal(
        "ImagePullBackOff",
        'Back-off pulling image "app": ErrImagePull: why',
        (("Failed", "Error: ImagePullBackOff"),),
        ("BackOff", 'Back-off pulling image "app"'),
    )


@pytest.mark.parametrize(
    ("reference", "also"),
    [
        ("app", "docker.io/library/app:latest"),
        ("me/app:1", "docker.io/me/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("docker.io/library/app:1", "app:1"),
        ("localhost/app:1", "app:1"),
    ],
)
def test_spellings(reference: str, also: str) -> None:
    """An image is found under the short and the long form of its name."""
    assert spellings(reference)[0] == reference
    assert also in spellings(reference)


def test_repository() -> None:
    """Tag and digest are not part of it, a port is."""
    assert repository("r.io:5000/a/b:1@sha256:00") == "r.io:5000/a/b"
    assert repository("r.io:5000/a") == "r.io:5000/a"


def test_last_name_wins_and_digests_work(layout: Layout, tmp_path: Path) -> None:
    """A rebuilt tag points to the new image; the old one is still reachable by digest."""
    writer = layout("images")
    old = writer.image("app:1", [packed(file("a"))])
    new = writer.image("app:1", [packed(file("b"))])
    store = ImageStore(tmp_path / "images")
    assert store.resolve("app:1").digest == new
    assert store.resolve(f"app@{old}").digest == old
    with pytest.raises(ImageMissing, match="other"):
        store.resolve("other")


def test_damaged_documents_are_refused(layout: Layout, tmp_path: Path) -> None:
    """A manifest that is not what its digest says is not believed."""
    writer = layout("images")
    digest = writer.image("app:1", [packed(file("a"))])
    blob = tmp_path / "images" / "blobs" / "sha256" / digest.partition(":")[2]
    blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(ImageCorrupt, match="does not match"):
        ImageStore(tmp_path / "images").resolve("app:1")


def unpack(layout: Layout, tmp_path: Path, content: bytes) -> Path:
    writer = layout("images")
    digest = writer.blob(content)
    layers = Layers(tmp_path / "layers", ImageStore(tmp_path / "images"))
    return layers.unpack(Layer(digest, "application/vnd.oci.image.layer.v1.tar+gzip"))


@needs_root
def test_layer_keeps_modes_links_and_owners(layout: Layout, tmp_path: Path) -> None:
    """Set-uid bits, owners, symbolic and hard links come out as they went in."""
    member, content = file("bin/su", b"x", 0o4755)
    member.uid, member.gid = 12, 34
    links = [link("l", "/bin/su"), link("h", "bin/su", tarfile.LNKTYPE)]
    root = unpack(layout, tmp_path, packed((member, content), *links))
    found = (root / "bin/su").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_nlink) == (0o4755, 12, 34, 2)
    assert (root / "l").readlink() == Path("/bin/su")


@needs_root
def test_whiteouts(layout: Layout, tmp_path: Path) -> None:
    """Deletions become what overlayfs understands."""
    root = unpack(layout, tmp_path, packed(file("d/.wh.gone"), file("e/.wh..wh..opq"), file("e/new")))
    gone = (root / "d/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(root / "e", "trusted.overlay.opaque") == b"y"


@needs_root
@pytest.mark.parametrize(
    "content",
    [
        packed(file("../evil")),
        packed(link("out", "/etc"), file("out/evil")),
        packed(link("up", ".."), file("up/evil")),
        packed(file("a", b"x" * 5000))[:-30],
        b"not a layer",
    ],
    ids=["parent", "absolute link", "relative link", "cut off", "garbage"],
)
def test_bad_layers_leave_nothing(layout: Layout, tmp_path: Path, content: bytes) -> None:
    """A hostile or broken layer is refused whole: no half-unpacked directory, nothing outside."""
    with pytest.raises(ImageCorrupt):
        unpack(layout, tmp_path, content)
    assert list((tmp_path / "layers").iterdir()) == []
    assert not (tmp_path / "evil").exists()
    assert not Path("/etc/evil").exists()


@needs_root
def test_digest_is_checked(layout: Layout, tmp_path: Path) -> None:
    """A layer with other content than its digest says is refused."""
    writer = layout("images")
    digest = writer.blob(packed(file("a", b"1")))
    (tmp_path / "images/blobs/sha256" / digest.partition(":")[2]).write_bytes(packed(file("a", b"2")))
    layers = Layers(tmp_path / "layers", ImageStore(tmp_path / "images"))
    with pytest.raises(ImageCorrupt, match="does not match"):
        layers.unpack(Layer(digest, "application/vnd.oci.image.layer.v1.tar+gzip"))
    assert list((tmp_path / "layers").iterdir()) == []


@needs_root
@pytest.mark.parametrize("name", ["plain", "a blank, a:colon and 데이터", "long" * 60])
def test_root_is_stacked_and_private(tmp_path: Path, name: str) -> None:
    """Upper layers hide lower ones, and what a container writes stays its own, wherever it is kept."""
    tmp_path /= name
    low, high = tmp_path / "layers/low", tmp_path / "layers/high"
    for folder, text in ((low, "low"), (high, "high")):
        folder.mkdir(parents=True)
        (folder / "both").write_text(text)
    (low / "only").write_text("low")
    folders = rootfs.RootFolders(tmp_path / "roots")
    try:
        root = rootfs.mount(folders, "c", [low, high])
        assert (root / "both").read_text() == "high"
        assert (root / "only").read_text() == "low"
        (root / "both").write_text("mine")
        assert (high / "both").read_text() == "high"
        assert linux.mounts_below(str(tmp_path)) == [str(root)]
    finally:
        rootfs.remove(folders, "c")
    assert rootfs.existing(folders) == []


def test_links_of_an_image_stay_in_its_root(tmp_path: Path) -> None:
    """A path is followed as a process inside would: absolute links begin at the root, `..` ends there."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "out").symlink_to("/etc")
    (root / "up").symlink_to("../../..")
    (root / "round").symlink_to("round")
    assert rootfs.within(root, "/out/app") == root / "etc" / "app"
    assert rootfs.within(root, "up/../etc") == root / "etc"
    assert rootfs.within(root, "/") == root
    with pytest.raises(errors.Invalid, match="too many links"):
        rootfs.within(root, "round")


def test_users(tmp_path: Path) -> None:
    """Names and numbers by the root's own files, with supplementary groups."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:12:34::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("web:x:77:app\nother:x:88:\n")
    found = rootfs.user(tmp_path, "app")
    assert (found.uid, found.gid, found.groups) == (12, 34, (77,))
    assert rootfs.user(tmp_path, "12:other").gid == 88
    assert rootfs.user(tmp_path, "5000").uid == 5000
    assert rootfs.user(tmp_path, "").uid == 0
    with pytest.raises(errors.Invalid, match="nobody"):
        rootfs.user(tmp_path, "nobody")


@pytest.mark.anyio
async def test_policies_say_why(tmp_path: Path) -> None:
    """A missing image has the reason its pull policy calls for."""
    store = images.Images(tmp_path)
    with pytest.raises(images.ImageUnavailable) as never:
        await store.ensure("a:1", "Never")
    assert never.value.reason == "ErrImageNeverPull"
    with pytest.raises(images.ImageUnavailable) as pull:
        await store.ensure("a:1", "IfNotPresent")
    assert pull.value.reason == "ErrImagePull"


@pytest.mark.anyio
@needs_root
async def test_a_source_brings_what_is_missing(layout: Layout, tmp_path: Path) -> None:
    """With a source a missing image is pulled, and Always asks it even when the image is there."""
    asked: list[str] = []

    class Source:
        async def pull(self, reference: str) -> None:
            asked.append(reference)
            layout("images").image(reference, [packed(file("a"))])

    store = images.Images(tmp_path, Source())
    assert (await store.ensure("a:1", "IfNotPresent")).was_pulled
    assert not (await store.ensure("a:1", "IfNotPresent")).was_pulled
    assert (await store.ensure("a:1", "Always")).was_pulled
    assert asked == ["a:1", "a:1"]

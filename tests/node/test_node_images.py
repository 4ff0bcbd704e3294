"""Images on the node: names, layers, whiteouts, damage, and the stacked root."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ondol.base import errors, zstd
from ondol.build import reference as build_reference
from ondol.node import linux
from ondol.node.images import images, pulling, rootfs
from ondol.node.images.collecting import collect, mounted
from ondol.node.images.layers import Layers
from ondol.node.images.store import (
    LOCAL_HOST,
    ImageCorrupt,
    ImageMissing,
    ImageStore,
    Layer,
    repository,
    spellings,
)
from ondol.node.runtime import spec

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


def numbered(**numbers: int) -> tuple[tarfile.TarInfo, bytes]:
    """A file of which a number is larger than a kernel takes."""
    member = tarfile.TarInfo("a")
    for name, number in numbers.items():
        setattr(member, name, number)
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
    with pytest.raises(pulling.ImageUnavailable) as raised:
        await images.Images(tmp_path).ensure(reference, "IfNotPresent")
    assert raised.value.reason == ("InvalidImageName" if reason else "ErrImagePull")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("reason", "failures", "events"),
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
def test_how_the_lack_of_an_image_is_told(reason: str, failures: int, events: list[tuple[str, str]]) -> None:
    """By the waiting reason, whose message says why, and the kubelet's events."""
    refusal = images.refusal("app", pulling.ImageUnavailable(reason, "why"), failures=failures)
    assert (refusal.reason, refusal.message, list(refusal.warnings), refusal.note) == (
        reason,
        "why",
        events,
        None,
    )


def test_a_second_try_is_backed_off_from() -> None:
    """The message still says why the image could not be had."""
    refusal = images.refusal("app", pulling.ImageUnavailable("ErrImagePull", "why"), failures=2)
    assert refusal == images.Refusal(
        "ImagePullBackOff",
        'Back-off pulling image "app": ErrImagePull: why',
        (("Failed", "Error: ImagePullBackOff"),),
        ("BackOff", 'Back-off pulling image "app"'),
    )


@pytest.mark.parametrize(
    ("reference", "also"),
    [
        ("app", "docker.io/library/app:latest"),
        ("app", "ondol.local/app:latest"),
        ("shop/app:1", "ondol.local/shop/app:1"),
        ("ondol.local/shop/app:1", "shop/app:1"),
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


def test_what_was_built_here_goes_before_docker_hub() -> None:
    """A bare name is the image just built, and both sides call it by the same host."""
    names = spellings("app")
    assert names.index(f"{LOCAL_HOST}/app:latest") < names.index("docker.io/library/app:latest")
    assert build_reference.full("app") == f"{LOCAL_HOST}/app:latest"


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("shop/ap:v1", ", which has ondol.local/shop/app:v1$"),
        ("app", ", which has ondol.local/shop/app:v1$"),
        ("app:2026.11-long-debian-version", ", which has ondol.local/shop/app:v1$"),
        ("nothing-like-it:7", "; `ondol image ls` lists what is in it$"),
    ],
)
def test_a_missing_image_is_told_with_what_is_there(
    layout: Layout, tmp_path: Path, reference: str, hint: str
) -> None:
    """A name mistyped is answered with the names that are like it."""
    layout("images").image("ondol.local/shop/app:v1", [packed(file("a"))])
    with pytest.raises(ImageMissing, match=f'image "{reference}" is not in the local image store{hint}'):
        ImageStore(tmp_path / "images").resolve(reference)


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


def _replaced(writer: Any, folder: Path, digest: str, **changes: Any) -> str:
    """Another manifest, like that of an image but for some fields; its digest."""
    document = json.loads((folder / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes())
    return str(writer.blob(json.dumps({**document, **changes}).encode()))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": {}},
        {"layers": ["x"]},
        {"layers": [{}]},
        {"layers": [{"digest": "sha256:" + "0" * 64, "size": "much"}]},
        {"layers": [{"digest": "sha256:" + "0" * 64, "size": [1]}]},
        {"layers": None},
        {"config": "x"},
        {"config": {}},
    ],
)
def test_a_manifest_that_is_none_is_the_images_own_affair(
    layout: Layout, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Refused with a reason: the node lists its images whatever stands in one of them."""
    writer = layout("images")
    good = writer.image("app:1", [packed(file("a"))])
    bad = _replaced(writer, tmp_path / "images", good, **changes)
    with pytest.raises(ImageCorrupt, match="is not a valid image"):
        ImageStore(tmp_path / "images").resolve(f"app@{bad}")


@pytest.mark.parametrize(
    "config",
    [{"Env": ["A=1", 5]}, {"Cmd": "sh"}, {"Entrypoint": {"a": 1}}, {"WorkingDir": ["/"]}, {"User": 0}, ["x"]],
)
def test_a_configuration_that_is_none_is_refused(layout: Layout, tmp_path: Path, config: Any) -> None:
    """What is not of the type it should be is named before a container is made of it."""
    writer = layout("images")
    good = writer.image("app:1", [packed(file("a"))])
    digest = writer.blob(json.dumps({"architecture": "amd64", "os": "linux", "config": config}).encode())
    bad = _replaced(writer, tmp_path / "images", good, config={"digest": digest})
    with pytest.raises(ImageCorrupt, match="is not a valid image"):
        ImageStore(tmp_path / "images").resolve(f"app@{bad}")


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
    stat_ = (root / "bin/su").stat()
    assert (stat.S_IMODE(stat_.st_mode), stat_.st_uid, stat_.st_gid, stat_.st_nlink) == (0o4755, 12, 34, 2)
    assert (root / "l").readlink() == Path("/bin/su")


@needs_root
def test_whiteouts(layout: Layout, tmp_path: Path) -> None:
    """Deletions become what overlayfs understands."""
    root = unpack(layout, tmp_path, packed(file("d/.wh.gone"), file("e/.wh..wh..opq"), file("e/new")))
    stat_ = (root / "d/gone").lstat()
    assert stat.S_ISCHR(stat_.st_mode)
    assert stat_.st_rdev == 0
    assert os.getxattr(root / "e", "trusted.overlay.opaque") == b"y"


@needs_root
@pytest.mark.parametrize(
    "content",
    [
        packed(file("../evil")),
        packed(link("round", "round"), file("round/evil")),
        packed(link("evil", "../../../../../etc/passwd", tarfile.LNKTYPE)),
        packed(file("a/.wh.")),
        packed(file("a/.wh...")),
        packed(file("a", b"x" * 5000))[:-30],
        b"not a layer",
        packed(numbered(uid=2**40)),
        packed(numbered(mtime=10**30)),
    ],
    ids=[
        "parent",
        "endless link",
        "hard link",
        "deletes its folder",
        "deletes above",
        "cut off",
        "garbage",
        "owner",
        "time",
    ],
)
def test_bad_layers_leave_nothing(layout: Layout, tmp_path: Path, content: bytes) -> None:
    """A hostile or broken layer is refused whole: no half-unpacked directory, nothing outside."""
    with pytest.raises(ImageCorrupt):
        unpack(layout, tmp_path, content)
    assert list((tmp_path / "layers").iterdir()) == []
    assert not (tmp_path / "evil").exists()
    assert not Path("/etc/evil").exists()


MOUNTS = (
    "30 25 0:26 / /run/a rw - tmpfs tmpfs rw\n"
    "31 25 0:27 / /data/rootfs/x/root rw - overlay overlay rw,lowerdir=../layers/%s:bb,upperdir=u,workdir=w\n"
    "32 25 0:28 / /data/rootfs/y/root rw - overlay none lowerdir=cc\n"
)


def test_mounted_layers_are_read_from_the_kernels_table() -> None:
    """Overlays only, the last part of each of their folders."""
    assert mounted(MOUNTS % "aa") == {"aa", "bb", "cc"}


@needs_root
def test_layers_that_nothing_needs_go(layout: Layout, tmp_path: Path) -> None:
    """Those of a name in the store stay, and those under a mount though their image has no name now."""
    writer = layout("images")
    store = ImageStore(tmp_path / "images")
    layers = Layers(tmp_path / "layers", store)
    digests = {}
    for name in ("old", "new", "running"):
        writer.image(f"{name}:1", [packed(file(name))])
        [layer] = store.resolve(f"{name}:1").layers
        digests[name] = layers.unpack(layer).name
    writer.forget("old:1")
    writer.forget("running:1")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS % digests["running"])
    assert collect(layers.root, store, mounts=mounts) == [digests["old"]]
    assert sorted(path.name for path in layers.root.iterdir()) == sorted([digests["new"], digests["running"]])
    assert collect(layers.root, store, mounts=mounts) == []


def test_nothing_is_collected_on_a_guess(layout: Layout, tmp_path: Path) -> None:
    """A manifest that cannot be read may need any layer."""
    writer = layout("images")
    digest = writer.image("app:1", [packed(file("a"))])
    store = ImageStore(tmp_path / "images")
    layers = Layers(tmp_path / "layers", store)
    stray = layers.root / ("0" * 64)
    stray.mkdir()
    store.blob_path(digest).write_bytes(b"{}")
    with pytest.raises(ImageCorrupt):
        collect(layers.root, store)
    assert stray.exists()


@needs_root
@pytest.mark.parametrize(
    ("target", "inside"),
    [("/etc", "etc"), ("..", ""), ("../../../../tmp", "tmp"), ("/proc/self/root/etc", "proc/self/root/etc")],
)
def test_links_lead_back_into_the_layer(layout: Layout, tmp_path: Path, target: str, inside: str) -> None:
    """An entry below a link is put where a container would see it: never outside the layer."""
    root = unpack(layout, tmp_path, packed(link("out", target), file("out/.evil", b"x"), file("out/d/.evil")))
    assert (root / inside / ".evil").read_bytes() == b"x"
    assert (root / inside / "d" / ".evil").is_file()
    assert not Path(target, ".evil").exists()


@needs_root
def test_a_link_that_replaces_a_folder_is_followed(layout: Layout, tmp_path: Path) -> None:
    """What comes after the replacement goes where the link leads, not to the folder that was there."""
    entries = [file("a/first"), link("a", "/b"), file("a/second"), file("b/third")]
    root = unpack(layout, tmp_path, packed(*entries))
    assert sorted(path.name for path in (root / "b").iterdir()) == ["second", "third"]


@needs_root
def test_deletions_and_what_the_layer_has_itself(layout: Layout, tmp_path: Path) -> None:
    """A name both deleted and there is there alone, in either order: nothing from below shines through."""
    folder = tarfile.TarInfo("b")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    content = packed(file("a/x"), file(".wh.a"), file(".wh.b"), (folder, b""), file("f"), file(".wh.f"))
    root = unpack(layout, tmp_path, content)
    assert (root / "a/x").is_file()
    assert (root / "f").is_file()
    for name in ("a", "b"):
        assert os.getxattr(root / name, "trusted.overlay.opaque") == b"y"


@needs_root
def test_attributes_of_the_host_are_left_out(layout: Layout, tmp_path: Path) -> None:
    """A layer may give a file capabilities, but may not tell overlayfs to look elsewhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("f")
        member.pax_headers = {
            "SCHILY.xattr.trusted.overlay.redirect": "/other",
            "SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        }
        archive.addfile(member)
    root = unpack(layout, tmp_path, gzip.compress(buffer.getvalue(), 1, mtime=0))
    assert os.listxattr(root / "f") == ["security.capability"]


@needs_root
def test_the_bytes_of_a_layer_say_whether_it_is_gzipped(layout: Layout, tmp_path: Path) -> None:
    """Skopeo writes a gzipped layer's type over a plain one that was in the layout before."""
    root = unpack(layout, tmp_path, gzip.decompress(packed(file("a", b"1"))))
    assert (root / "a").read_bytes() == b"1"


@needs_root
def test_layers_packed_by_zstd_are_unpacked(layout: Layout, tmp_path: Path) -> None:
    """As the registries of larger images have them."""
    plain = gzip.decompress(packed(file("a", b"1")))
    root = unpack(layout, tmp_path, zstd.packed(plain))
    assert (root / "a").read_bytes() == b"1"
    with pytest.raises(ImageCorrupt):
        unpack(layout, tmp_path, zstd.packed(plain)[:-9])
    with pytest.raises(ImageCorrupt):
        unpack(layout, tmp_path, zstd.MAGIC + b"garbage")


@needs_root
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_attributes_without_measure_are_not_read(layout: Layout, tmp_path: Path, kind: bytes) -> None:
    """Each entry's are read into memory whole: more than a megabyte is refused before that."""
    member, _ = file("a")
    member.type, content = kind, bytes(2 << 20)
    with pytest.raises(ImageCorrupt, match="attributes of 2097152 bytes"):
        unpack(layout, tmp_path, packed((member, content)))


@needs_root
@pytest.mark.parametrize("contents", [[bytes(17 << 20)], [b""] * 5000])
def test_a_layer_leaves_room_on_the_disk(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: list[bytes]
) -> None:
    """A small blob may hold terabytes or millions of files; the last twentieth of the disk is for others."""
    monkeypatch.setattr("ondol.base.sparing._SHARE_LEFT", 0)  # as if the last twentieth had begun
    files = [file(f"f{number}", content) for number, content in enumerate(contents)]
    with pytest.raises(ImageCorrupt, match="less than a twentieth"):
        unpack(layout, tmp_path, packed(*files))
    assert list((tmp_path / "layers").iterdir()) == []


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


def test_accounts_are_read_from_regular_files_of_the_image_alone(tmp_path: Path) -> None:
    """A link is followed inside the image; a FIFO is not waited for; a file without end is refused."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/real")
    (tmp_path / "real").write_text("app:x:12:34::/:/bin/sh\nbad:x:one:two::/:/bin/sh\nshort\n")
    os.mkfifo(tmp_path / "etc/group")
    assert rootfs.user(tmp_path, "app").uid == 12
    with pytest.raises(errors.Invalid, match="bad"):
        rootfs.user(tmp_path, "bad")
    with pytest.raises(errors.Invalid, match="group"):
        rootfs.user(tmp_path, "app:any")
    os.truncate(tmp_path / "real", 1 << 30)
    with pytest.raises(errors.Invalid, match="larger"):
        rootfs.user(tmp_path, "app")


@needs_root
def test_the_folder_to_start_in_is_made_inside(tmp_path: Path) -> None:
    """It is the user's; links of the image lead nowhere but into the image."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/up").symlink_to("../../outside")
    rootfs.make_folder(tmp_path / "root", "/up/work", spec.User(12, 34))
    folder = (tmp_path / "root/outside/work").stat()
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (12, 34, 0o755)
    assert not (tmp_path / "outside").exists()


def test_users(tmp_path: Path) -> None:
    """Names and numbers by the root's own files, with supplementary groups."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:12:34::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("web:x:77:app\nother:x:88:\n")
    user = rootfs.user(tmp_path, "app")
    assert (user.uid, user.gid, user.groups) == (12, 34, (77,))
    assert rootfs.user(tmp_path, "12:other").gid == 88
    assert rootfs.user(tmp_path, "5000").uid == 5000
    assert rootfs.user(tmp_path, "").uid == 0
    with pytest.raises(errors.Invalid, match="nobody"):
        rootfs.user(tmp_path, "nobody")
    (tmp_path / "etc/passwd").write_text(f"root:x:{'1' * 5000}:0::/:/bin/sh\n")
    assert rootfs.user(tmp_path, "").uid == 0, "a line with a number that is none is none"


@pytest.mark.anyio
async def test_policies_say_why(tmp_path: Path) -> None:
    """A missing image has the reason its pull policy calls for."""
    store = images.Images(tmp_path)
    with pytest.raises(pulling.ImageUnavailable) as never:
        await store.ensure("a:1", "Never")
    assert never.value.reason == "ErrImageNeverPull"
    with pytest.raises(pulling.ImageUnavailable) as pull:
        await store.ensure("a:1", "IfNotPresent")
    assert pull.value.reason == "ErrImagePull"

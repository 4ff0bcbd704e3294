"""Images of packages from a repository of the test's own, with the real apt and dpkg-deb."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

from ondol.build import libraries
from ondol.build.debian import image
from ondol.build.debian.apt import Apt
from ondol.build.errors import BuildError
from ondol.build.store import ImageStore

_LIBC: Final = "libc.so.6"
_TRUE: Final = shutil.which("true") or "/usr/bin/true"
_UNIT: Final = (
    "[Service]\nUser=app\nStateDirectory=app\nEnvironmentFile=/etc/default/app\nExecStart=/usr/bin/app $X\n"
)


pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not on this machine")


class Repository:
    """A flat repository of packages made here, which apt is told of by its own variable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / "packages"
        self.packages.mkdir()
        for name in ("lists/partial", "parts", "cache"):
            (folder / name).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb [trusted=yes] file:{self.packages} ./\n")
        settings = {
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": folder / "parts",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "APT::Sandbox::User": "root",
        }
        text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        (folder / "apt.conf").write_text(text)

    def add(
        self, name: str, files: dict[str, str | Path], *, depends: str = "", version: str = "1.0"
    ) -> None:
        """A package with these files: texts, or copies of the machine's."""
        root = self.folder / "roots" / name
        (root / "DEBIAN").mkdir(parents=True)
        architecture = subprocess.run(
            ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
        ).stdout.strip()
        (root / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
            "Maintainer: Nobody <n@invalid>\n"
            + (f"Depends: {depends}\n" if depends else "")
            + "Description: for a test\n"
        )
        for place, source in files.items():
            path = root / place.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Path):
                shutil.copy(source, path)
            else:
                path.write_text(source)
                path.chmod(0o755 if "/bin/" in place else 0o640)
        target = self.packages / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--build", "-Znone", root, target], check=True, capture_output=True)

    def publish(self) -> None:
        """Write the index and have apt read it."""
        entries = []
        for path in sorted(self.packages.glob("*.deb")):
            fields = subprocess.run(
                ["dpkg-deb", "--field", path], capture_output=True, text=True, check=True
            ).stdout
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            size = path.stat().st_size
            entries.append(f"{fields}Filename: ./{path.name}\nSize: {size}\nSHA256: {digest}\n")
        (self.packages / "Packages").write_text("\n".join(entries))
        subprocess.run(["apt-get", "update"], check=True, capture_output=True, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf")}


def _machine_libraries(program: str) -> dict[str, str | Path]:
    """The machine's C library and loader, at a place of a test's own."""
    closure = libraries.closure([Path(program)], libraries.Search.of_machine(), machine=platform.machine())
    return {f"/lib/here/{Path(path).name}": Path(path) for path in closure.files}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    local = Repository(tmp_path_factory.mktemp("repository"))
    local.add("libc6", _machine_libraries(_TRUE), depends="libgcc-s1")
    local.add("libgcc-s1", {"/lib/here/libgcc_s.so.1": "not really\n"}, depends="libc6")
    local.add("dash", {"/bin/dash": "#!\n", "/usr/share/man/man1/dash.1": "manual\n"})
    local.add("netbase", {"/etc/services": "http 80/tcp\n"})
    local.add("adduser", {"/usr/sbin/adduser": "#!\n"})
    local.add(
        "app",
        {
            "/usr/bin/app": Path(_TRUE),
            "/usr/bin/appctl": "#!/bin/sh\n",
            "/lib/systemd/system/app.service": _UNIT,
            "/etc/default/app": 'X="-v --of=1"\n',
            "/etc/app/app.conf": "a\n",
            "/etc/init.d/app": "#!/bin/sh\n",
            "/usr/share/doc/app/copyright": "a licence\n",
            "/usr/share/doc/app/examples/one": "an example\n",
            "/usr/share/locale/ko/app.mo": "words\n",
            "/usr/lib/app/plugin.so": "none\n",
            "/usr/lib/app/static.a": "none\n",
            "/var/log/app/keep": "",
        },
        depends="libc6 (>= 1), adduser, app-data",
        version="3:1.5~rc1+x-1",
    )
    local.add("app-data", {"/usr/share/app/data": "data\n"}, version="3:1.5~rc1+x-1")
    local.add("extra", {"/usr/bin/extra": "#!/bin/sh\n"})
    local.add("lacking", {"/usr/bin/lacking": Path(shutil.which("bash") or "/bin/bash")}, depends="dash")
    local.add("tied", {"/usr/bin/tied": "#!/bin/sh\n"}, depends="nowhere")
    local.publish()
    return local


@pytest.fixture
def store(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    monkeypatch.setenv("APT_CONFIG", repository.environment["APT_CONFIG"])
    return ImageStore(tmp_path / "images")


def _members(store: ImageStore, digest: str) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for layer in store.manifest(digest)["layers"]:
        with tarfile.open(store.blob(layer["digest"])) as tar:
            members |= {member.name: member for member in tar.getmembers()}
    return members


def test_a_package_becomes_an_image_that_runs_its_service(store: ImageStore) -> None:
    """The unit's command, account, variables and folders are the image's; its name is package and version."""
    built = image.build(image.Request("app"), store)
    assert built.reference == "ondol.local/app:1.5-rc1-x-1"
    config = store.config(built.digest)["config"]
    assert config["Entrypoint"] == ["/usr/bin/app"]
    assert config["Cmd"] == ["-v", "--of=1"]
    assert config["User"] == "101:101"
    assert config["WorkingDir"] == "/var/lib/app"
    assert "ExposedPorts" not in config
    assert {"X=-v --of=1", "HOME=/var/lib/app"} <= set(config["Env"])
    members = _members(store, built.digest)
    assert members["var/lib/app"].uid == 101
    assert members["var/log/app"].uid == 101
    assert built.user == "app"


def test_what_goes_in_and_what_stays_out(store: ImageStore) -> None:
    """Programs, data, libraries and licences; no manuals, examples, translations, installers."""
    built = image.build(image.Request("app"), store)
    members = _members(store, built.digest)
    assert {
        "etc/app/app.conf",
        "etc/passwd",
        "etc/services",
        f"usr/lib/here/{_LIBC}",
        "usr/bin/app",
        "usr/bin/dash",
        "usr/lib/app/plugin.so",
        "usr/share/app/data",
        "usr/share/doc/app/copyright",
        "var/lib/dpkg/status.d/app",
    } <= set(members)
    assert members["lib"].linkname == "usr/lib"
    assert members["etc/app/app.conf"].mode == 0o644  # who the service is may read what a package has
    assert members["tmp"].mode == 0o1777
    left_out = ("man/", "locale", "init.d", "examples", "static.a", "adduser", "systemd")
    assert [name for name in members if any(part in name for part in left_out)] == []


def test_images_share_a_layer_and_are_the_same_every_time(store: ImageStore, tmp_path: Path) -> None:
    """The same packages give the same digest anywhere, and other packages stand on the same base."""
    one = image.build(image.Request("app"), store)
    two = image.build(image.Request("app"), ImageStore(tmp_path / "other"))
    assert one.digest == two.digest
    other = image.build(image.Request("extra"), store)
    layers = [store.manifest(built.digest)["layers"] for built in (one, other)]
    assert layers[0][0] == layers[1][0]
    assert layers[0][1] != layers[1][1]


def test_a_person_may_say_what_to_run(store: ImageStore) -> None:
    """A command of one's own goes before the unit's and is looked up in the image; the account stays."""
    request = image.Request("app", ("extra",), "mine:1", "extra 'a b'")
    built = image.build(request, store)
    assert built.reference == "ondol.local/mine:1"
    assert built.command == ("/usr/bin/extra", "a b")
    assert built.user == "app"
    with pytest.raises(BuildError, match="nothing is in none of the packages"):
        image.build(image.Request("app", entrypoint="nothing"), store)


def test_a_program_without_a_unit_is_run_as_root(store: ImageStore) -> None:
    """A package with one program and no service runs that."""
    built = image.build(image.Request("extra"), store)
    assert (built.command, built.user) == (("/usr/bin/extra",), "root")
    assert store.config(built.digest)["config"]["User"] == "0:0"
    assert store.config(built.digest)["config"]["WorkingDir"] == "/"


def test_a_library_that_no_package_brings_is_named(store: ImageStore) -> None:
    """A daemon that could not start is no image: its missing library is said before anything is named."""
    with pytest.raises(BuildError, match=r"lacking needs .*libtinfo"):
        image.build(image.Request("lacking"), store)
    assert store.images() == []


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("unheard-of", "Unable to locate package"),
        ("app=9", "Version '9' for 'app' was not found"),
        ("tied", "Depends: nowhere|unmet|held broken"),
        ("-o=x", "is not a package"),
    ],
)
def test_what_cannot_be_had_is_said_in_apts_words(store: ImageStore, package: str, words: str) -> None:
    """An unknown package, version or dependency, and what is no name at all."""
    with pytest.raises(BuildError, match=words):
        image.build(image.Request(package), store)


def test_what_apt_has_already_is_not_fetched_again(repository: Repository, tmp_path: Path) -> None:
    """A package in apt's cache is taken from there, though its repository is gone."""
    cache = tmp_path / "cache"
    cache.mkdir()
    environment = pytest.MonkeyPatch()
    environment.setenv("APT_CONFIG", repository.environment["APT_CONFIG"])
    for path in repository.packages.glob("extra.deb"):
        shutil.copy(path, cache / "extra_1.0_amd64.deb")
    away = repository.packages / "extra.deb"
    try:
        away.rename(tmp_path / "extra.deb")
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        without = Apt(tmp_path / "one", cache=tmp_path / "none")
        with pytest.raises(BuildError):
            without.fetch(["extra"])
        assert set(Apt(tmp_path / "two", cache=cache).fetch(["extra"])) == {"extra"}
    finally:
        (tmp_path / "extra.deb").rename(away)
        environment.undo()


def test_a_machine_without_apt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no apt, the error says what this needs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt-get and dpkg-deb is not on this machine"):
        Apt(tmp_path / "folder")

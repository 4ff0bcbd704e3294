"""The base layer: the machine's own Python and the libraries it needs, nothing else.

Everything lies where it lies here, so that absolute paths inside it hold: the interpreter and its
standard library (without tests, graphical parts and installers), its extension modules that work,
the shared libraries of all these, the C library with its name service modules, certificates, time
zones, a shell with a handful of tools, and the accounts `root`, `nobody` and `app`. The layer is
kept by what it was made from (paths, sizes and times), so that the next build need not make it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build import bytecode, elf, interpreter, libraries, oci
from ondol.build.archive import Tree
from ondol.build.interpreter import Interpreter
from ondol.build.store import ImageStore

PYTHON: Final = "/usr/bin/python3"
USER_ID: Final = 65532
HOME: Final = "/home/app"
_RECIPE: Final = 2  # grows with any change to what goes into the layer

_LEFT_OUT_FOLDERS: Final = frozenset(
    [
        "__pycache__",
        "__phello__",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "lib-dynload",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
    ]
)
_LEFT_OUT_FILES: Final = frozenset(
    ["EXTERNALLY-MANAGED", "LICENSE.txt", "__hello__.py", "antigravity.py", "this.py", "turtle.py"]
)
_LEFT_OUT_MODULES: Final = ("_test", "_ctypes_test", "_tkinter", "xxlimited", "_xx", "xxsubtype")
# Loaded by the C library at run time, so no program lists them as needed.
_LOADED_LATER: Final = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1")
_TOOLS: Final = ("sh", "cat", "echo", "env", "ls", "sleep", "true", "false")
_CERTIFICATES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_TIME_ZONES: Final = Path("/usr/share/zoneinfo")
_LOCALE: Final = Path("/usr/lib/locale/C.utf8")
_PASSWD: Final = f"""\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
app:x:{USER_ID}:{USER_ID}:app:{HOME}:/bin/sh
"""
_GROUP: Final = f"root:x:0:\nnogroup:x:65534:\napp:x:{USER_ID}:\n"
_NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"


def layer(store: ImageStore, python: Interpreter, *, epoch_s: int) -> tuple[oci.Layer, bool]:
    """The base layer in the store, and whether it was there already."""
    title = f"ondol: Python {python.version} of this machine"
    key = f"base-{_key(python, epoch_s)}"
    record = store.remembered(key)
    if record is not None and store.has(record["digest"]) and _sources(python) == record["sources"]:
        return oci.Layer(record["digest"], record["size"], title), True
    sources = _sources(python)
    content = tree(python)
    with store.draft() as draft:
        content.write(draft, epoch_s=epoch_s)
    store.remember(
        key,
        {
            "digest": draft.digest,
            "size": draft.size_bytes,
            "sources": sources,
            "libraries": _provided(content),
        },
    )
    return oci.Layer(draft.digest, draft.size_bytes, title), False


def provided(store: ImageStore, python: Interpreter, *, epoch_s: int) -> set[str]:
    """Names of the shared libraries that the base layer brings."""
    record = store.remembered(f"base-{_key(python, epoch_s)}") or {"libraries": []}
    return set(record["libraries"])


def libpython(python: Interpreter) -> set[str]:
    """Names under which an extension module may ask for the interpreter itself."""
    major_minor = ".".join(python.version.split(".")[:2])
    return {f"libpython{major_minor}.so.1.0", f"libpython{major_minor}.so", "libpython3.so"}


def tree(python: Interpreter) -> Tree:
    """What the base layer holds."""
    content = Tree()
    _standard_library(content, python)
    programs = [python.executable, *_extensions(python)]
    programs += tools()
    for program in programs:
        content.copy(str(program))
    if str(python.executable) != PYTHON:
        content.link(PYTHON, str(python.executable))
    content.link("/usr/bin/python", "python3")
    add_libraries(content, programs, python)
    add_machine(content, python)
    return content


def tools() -> list[Path]:
    """A shell and the handful of programs that people try in a container."""
    return [Path(tool) for name in _TOOLS if (tool := _tool(name))]


def _key(python: Interpreter, epoch_s: int) -> str:
    text = f"{_RECIPE} {epoch_s} {python}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sources(python: Interpreter) -> str:
    """A digest of the paths, sizes and times of what the layer is made from."""
    digest = hashlib.sha256()
    watched = [
        str(python.executable),
        "/etc/ld.so.cache",
        *_CERTIFICATES,
        str(_TIME_ZONES),
        str(_TIME_ZONES / "tzdata.zi"),
        *(tool for name in _TOOLS if (tool := _tool(name))),
    ]
    for folder in (python.stdlib, *python.dynload):
        watched += [str(path) for path in _walk(folder)]
    for path in watched:
        try:
            status = os.stat(path)  # noqa: PTH116 - a few thousand paths, of which the text is at hand
        except FileNotFoundError:
            continue
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _standard_library(content: Tree, python: Interpreter) -> None:
    sources: dict[str, Path] = {}
    for path in _walk(python.stdlib):
        place = content.copy(str(path))
        if path.suffix == ".py":
            sources[str(path)] = path
            if place != str(path):  # a link: its bytecode stands beside the link
                continue
    done = bytecode.compiled(sources, python)
    for place, code in done.code.items():
        content.text(bytecode.cached_path(place, python), code)


def _walk(folder: Path) -> Iterator[Path]:
    """The files of the standard library (or of its extension modules) that are wanted, in order."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT_FOLDERS and not f.startswith("config-"))
        for name in sorted(files):
            if name not in _LEFT_OUT_FILES and not name.endswith((".a", ".exe", ".pyc", ".o")):
                yield Path(here) / name


def _extensions(python: Interpreter) -> list[Path]:
    """Extension modules that import on this machine (one that lacks its library here is left out)."""
    files = [
        path
        for folder in python.dynload
        for path in _walk(folder)
        if ".so" in path.suffixes and not path.name.startswith(_LEFT_OUT_MODULES)
    ]
    working = interpreter.importable(python, [path.name.split(".", 1)[0] for path in files])
    return [path for path in files if path.name.split(".", 1)[0] in working]


def add_libraries(content: Tree, programs: Iterable[Path], python: Interpreter) -> None:
    """The shared libraries of programs, and what the C library loads at run time."""
    search = libraries.Search.of_machine(python.multiarch)
    elves = [path for path in programs if elf.is_elf(path)]
    closure = libraries.closure(elves, search, machine=python.machine)
    home = _library_folder(closure)
    for name in _LOADED_LATER:
        place = next((f"{f}/{name}" for f in (home, *search.folders) if Path(f, name).is_file()), "")
        if place:
            extra = libraries.closure([Path(place)], search, machine=python.machine)
            closure.files |= {place, *extra.files}
            closure.cached |= extra.cached
    for path in sorted(closure.files):
        content.copy(path)
    for name, path in sorted(closure.cached.items()):
        # The image has no linker cache: what only the cache would find is linked into the default folder.
        if Path(path).parent.resolve() != Path(home).resolve():
            content.link(f"{os.path.realpath(home)}/{name}", path)


def _library_folder(closure: libraries.Closure) -> str:
    """The folder of the C library, which the linker always searches."""
    libc = next((f for f in sorted(closure.files) if Path(f).name.startswith("libc.")), "")
    if not libc:
        raise errors.HostError(
            "the machine's Python is linked statically: a base layer needs one that is linked to a C library",
            remedy="use the python3 of the distribution",
        )
    return str(Path(libc).parent)


def add_machine(content: Tree, python: Interpreter) -> None:
    """What every program finds on a machine: accounts, folders, certificates, time zones."""
    for path, text in (
        ("/etc/passwd", _PASSWD),
        ("/etc/group", _GROUP),
        ("/etc/nsswitch.conf", _NSSWITCH),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("/etc/os-release", 'NAME="Ondol base"\nID=ondol\n'),
    ):
        content.text(path, text)
    for folder in ("/bin", "/sbin", "/lib", "/lib64"):
        if Path(folder).is_symlink():  # a merged /usr; elsewhere programs were copied to their own folder
            content.link(folder, str(Path(folder).readlink()))
    content.folder("/tmp", mode=0o1777)  # noqa: S108 - the container's own
    content.folder("/var/tmp", mode=0o1777)  # noqa: S108 - likewise
    content.folder(HOME, mode=0o750, owner=USER_ID)
    for path in ("/root", "/proc", "/sys", "/dev", "/run", "/etc/ssl/certs", str(python.site)):
        content.folder(path)
    _certificates(content, python)
    for data in (_TIME_ZONES, _LOCALE):
        if data.is_dir():
            _data(content, data)


def _certificates(content: Tree, python: Interpreter) -> None:
    bundle = next((path for path in _CERTIFICATES if Path(path).is_file()), "")
    if not bundle:
        return
    usual = _CERTIFICATES[0]
    content.text(usual, Path(bundle).read_bytes())
    expected = interpreter.certificates(python)
    if expected and expected != usual:
        content.link(expected, usual)


def _data(content: Tree, folder: Path) -> None:
    """Time zones and the like: files as they are, without the variants nobody names."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in {"posix", "right"})
        for name in sorted(files):
            path = Path(here) / name
            if path.exists():
                content.copy(str(path))


def _tool(name: str) -> str:
    return next((f"{folder}/{name}" for folder in ("/usr/bin", "/bin") if Path(folder, name).is_file()), "")


def _provided(content: Tree) -> list[str]:
    return sorted({path.rpartition("/")[2] for path in content.entries if ".so" in path})

"""`image.build`: a package of the distribution in, an image in the local store out, nothing installed.

Two layers: what every such image has (the C library, a shell, certificates, accounts), which images
share, and the package with what else it needs. None of the packages' scripts runs: what their services'
units say of accounts and folders is done instead.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base.clock import Clock, SystemClock
from ondol.build import oci
from ondol.build import reference as references
from ondol.build.archive import Tree
from ondol.build.dates import epoch_s
from ondol.build.debian import accounts, content, control, scripts
from ondol.build.debian.apt import Apt, Fetched
from ondol.build.debian.content import Unpacked
from ondol.build.debian.units import Service
from ondol.build.errors import BuildError
from ondol.build.store import ImageStore

_BASE: Final = ("libc6", "libgcc-s1", "dash", "netbase")
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_RELEASE: Final = Path("/usr/lib/os-release")
_TITLE: Final = "org.opencontainers.image."
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did; `packages` are those in the image, as `name version`."""

    reference: str
    digest: str
    size_bytes: int
    seconds: float
    command: tuple[str, ...]
    user: str
    packages: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for: a package (`name` or `name=version`), others beside it, and what to run."""

    package: str
    beside: Sequence[str] = ()
    reference: str = ""
    entrypoint: str = ""

    @property
    def name(self) -> str:
        return self.package.partition("=")[0]


def build(
    request: Request,
    store: ImageStore,
    *,
    environment: Mapping[str, str] = os.environ,
    progress: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Built:
    """Make an image of a package and name it, by default `ondol.local/<package>:<version>`.

    It runs what the package's systemd unit starts, or else its only program, as the unit's account.
    `BuildError` if the package cannot be had or does not say what to start.
    """
    monotonic = (clock or SystemClock()).monotonic
    started_s = monotonic()
    date_s = epoch_s(environment)
    with tempfile.TemporaryDirectory(prefix="ondol-debian-") as folder, store.building():
        apt = Apt(Path(folder))
        progress(f"{request.name}: fetching packages")
        names = [request.name, *(beside.partition("=")[0] for beside in request.beside)]
        fetched = apt.fetch([request.package, *request.beside, *_BASE])
        base, others = _parts(fetched, names)
        progress(f"{request.name}: unpacking {len(base) + len(others)} packages")
        trees = [_base_tree(apt, base), Tree()]
        unpacked = [Unpacked(each.package, apt.unpack(each)) for each in others]
        main = next(each for each in unpacked if each.package.name == request.name)
        for each in unpacked:
            content.add(trees[1], each)
        service = _service(request, main, unpacked)
        kin = _kin(main, unpacked)
        script = "\n".join([service.before, *(apt.scripts(fetched[each.package.name]) for each in kin)])
        account = accounts.add(trees[1], service, content.data_folders(kin), scripts.accounts(script))
        command = (content.resolved(trees, service.command[0]), *service.command[1:])
        _check(trees, command[0])
        layers = [
            _layer(store, tree, title, date_s) for tree, title in zip(trees, _titles(main), strict=True)
        ]
        config = oci.config(_process(main, service, command, account), layers, epoch_s=date_s)
        store.put(config)
        named = store.add(_reference(request, main), oci.manifest(config, layers, {}))
    return Built(
        reference=named.reference,
        digest=named.digest,
        size_bytes=named.size_bytes,
        seconds=monotonic() - started_s,
        command=command,
        user=service.user or "root",
        packages=tuple(sorted(f"{e.package.name} {e.package.version}" for e in (*base, *others))),
        warnings=_warnings(service, request),
    )


def _parts(
    fetched: Mapping[str, Fetched], names: Sequence[str]
) -> tuple[Sequence[Fetched], Sequence[Fetched]]:
    """The packages of the layer that images share, and the others that this one needs."""
    packages = {name: each.package for name, each in fetched.items()}
    for name in names:
        if name not in packages:
            raise BuildError(
                f"{name} is no package by itself", remedy=f"apt-cache showpkg {name} names those that are it"
            )
    base = {package.name for package in control.closure(_BASE, packages)} - set(names)
    whole = [package.name for package in control.closure(names, packages)]
    return [fetched[name] for name in sorted(base)], [fetched[name] for name in whole if name not in base]


def _base_tree(apt: Apt, packages: Sequence[Fetched]) -> Tree:
    tree = Tree()
    for folder in ("bin", "sbin", "lib", "lib64"):
        tree.link(folder, f"usr/{folder}")
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64"):
        tree.folder(folder)
    for each in packages:
        content.add(tree, Unpacked(each.package, apt.unpack(each)))
    tree.text("/etc/nsswitch.conf", _NSSWITCH)
    tree.text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    for source, place in ((_CERTIFICATES, str(_CERTIFICATES)), (_RELEASE, "/usr/lib/os-release")):
        if source.is_file():
            tree.text(place, source.read_bytes())
    tree.link("/etc/os-release", "../usr/lib/os-release")
    tree.folder("/tmp", mode=0o1777)  # noqa: S108 - the container's own
    tree.folder("/var/tmp", mode=0o1777)  # noqa: S108 - likewise
    for folder in ("/root", "/proc", "/sys", "/dev", "/run", "/var/lib", "/var/log", "/var/cache"):
        tree.folder(folder)
    tree.link("/var/run", "/run")
    return tree


def _service(request: Request, main: Unpacked, unpacked: Sequence[Unpacked]) -> Service:
    """What to run and as whom, by the unit or the only program; a command of one's own goes before."""
    words = content.words(request.entrypoint) if request.entrypoint else ()
    try:
        service = content.service([main], request.name) or content.service(_kin(main, unpacked), request.name)
    except BuildError:
        if not words:
            raise
        service = None
    if service is None:
        service = Service(words or (content.program(main),), "", "", {}, "", (), False)
    if not words:
        return service
    return dataclasses.replace(service, command=words, is_forking=False)


def _kin(main: Unpacked, unpacked: Sequence[Unpacked]) -> list[Unpacked]:
    """The package and those of its dependencies that are made of the same sources, as `nginx-common`."""
    stem = main.package.name.partition("-")[0]
    kin = [e for e in unpacked if e is not main and e.package.version == main.package.version]
    return [main, *(each for each in kin if each.package.name.partition("-")[0] == stem)]


def _check(trees: Sequence[Tree], program: str) -> None:
    if missing := content.missing_libraries(trees, program):
        raise BuildError(
            f"{program} needs {', '.join(missing)}, which none of its packages brings",
            remedy="name the package that has it with --with",
        )


def _layer(store: ImageStore, tree: Tree, title: str, date_s: int) -> oci.Layer:
    with store.draft() as draft:
        tree.write(draft, epoch_s=date_s)
    return oci.Layer(draft.digest, draft.size_bytes, title)


def _titles(main: Unpacked) -> tuple[str, str]:
    return "ondol: base of the distribution", f"ondol: {main.package.name} {main.package.version}"


def _process(
    main: Unpacked, service: Service, command: Sequence[str], account: accounts.Account
) -> oci.Process:
    return oci.Process(
        entrypoint=command[:1],
        arguments=command[1:],
        env={"PATH": _PATH, "LANG": "C.UTF-8", "HOME": account.home, **service.environment},
        user=f"{account.uid}:{account.gid}",
        # Where a command of one's own may write by itself; a unit without a folder begins at the root.
        working_dir=service.working_dir or account.folder,
        port=0,
        labels={
            f"{_TITLE}title": main.package.name,
            f"{_TITLE}version": main.package.version,
        },
    )


def _reference(request: Request, main: Unpacked) -> str:
    if request.reference:
        return references.full(request.reference)
    name = main.package.name.replace("+", "-plus").replace("-plus-plus", "-plus")
    return f"{references.LOCAL_HOST}/{name}:{control.tag(main.package.version)}"


def _warnings(service: Service, request: Request) -> tuple[str, ...]:
    if not service.is_forking:
        return ()
    words = f"the unit of {request.name} starts a daemon that leaves its process"
    return (f"{words}: if the container ends at once, name a command that stays with --entrypoint",)

"""Find out at start which runtime works on this host, by running a tiny container with each.

No version table and no feature list: crun 1.8 lists nothing and refuses hosts with both cgroup
versions mounted, yet works in a mount namespace that hides one of them. What worked is remembered
for this boot of the machine. All of it happens in the run folder, which is in memory: a full disk is no
reason to find that nothing works.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio

from ondol.base import errors, files, log
from ondol.base.clock import Clock
from ondol.node import linux
from ondol.node.runtime import oci, seccomp, spec
from ondol.node.runtime.port import Creation, RuntimeFailed

_log = log.get("node.runtime")
_SENTINEL_CODE: Final = 7
_UNFILTERED_CODE: Final = 8
_TRIAL: Final = (
    "while read -r name value; do"
    f' [ "$name $value" = "Seccomp: 2" ] && exit {_SENTINEL_CODE};'
    f" done </proc/self/status; exit {_UNFILTERED_CODE}"
)
"""Ends as agreed where the system calls of the container are filtered as it was asked for."""
_PATIENCE_S: Final = 10.0
_HIDE_UNIFIED: Final = """#!/bin/sh
exec unshare --mount --propagation slave \\
  /bin/sh -c 'umount /sys/fs/cgroup/unified && exec "$0" "$@"' {path} "$@"
"""


async def working(folders: oci.Folders, clock: Clock, cgroup: str, preferred: str = "") -> oci.OciRuntime:
    """The first runtime that runs a container here; `preferred` restricts the choice to one name."""
    if shutil.which("conmon") is None:
        raise errors.HostError(
            "conmon is not installed", remedy="install it, e.g. apt-get install conmon crun"
        )
    folders.prepare()
    remembered = _remembered(folders, preferred)
    if remembered is not None:
        return oci.OciRuntime(remembered, folders, clock, shim_cgroup=f"{cgroup}/shim")
    refusals: list[str] = []
    for binary in _candidates(folders, preferred):
        refusal = await _try(binary, folders, clock, cgroup)
        if not refusal:
            _log.info(
                "runtime_chosen", runtime=binary.name, version=binary.version, careful=binary.careful_path
            )
            _remember(folders, preferred, binary)
            return oci.OciRuntime(binary, folders, clock, shim_cgroup=f"{cgroup}/shim")
        refusals.append(f"{binary.careful_path}: {refusal}")
    raise errors.HostError(
        "no container runtime works here: " + ("; ".join(refusals) or "neither crun nor runc is installed"),
        remedy="install one as root, e.g. apt-get install crun conmon",
    )


def _candidates(folders: oci.Folders, preferred: str) -> Iterator[oci.Binary]:
    for name in ("crun", "runc"):
        path = shutil.which(name)
        if path is None or (preferred and name != preferred):
            continue
        version = _version(path)
        yield oci.Binary(name, path, version)
        if name == "crun" and Path("/sys/fs/cgroup/unified").is_dir():
            yield oci.Binary(name, path, version, str(_wrapper(folders, path)))


def _wrapper(folders: oci.Folders, path: str) -> Path:
    wrapper = folders.run / "crun-without-unified"
    files.replace(wrapper, _HIDE_UNIFIED.format(path=path).encode(), mode=0o700, durable=False)
    return wrapper


def _version(path: str) -> str:
    output = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False, timeout=10
    ).stdout
    words = output.split("\n", 1)[0].split()
    return words[-1] if words else "unknown"


async def _try(binary: oci.Binary, folders: oci.Folders, clock: Clock, cgroup: str) -> str:
    """Why it does not work; empty when it does."""
    bench = oci.Folders(folders.run / "trial", folders.run)
    runtime = oci.OciRuntime(binary, bench, clock)
    container_id = f"trial-{os.getpid()}"
    try:
        with clock.fail_after(_PATIENCE_S):
            creation = Creation(container_id, _trial_spec(bench, cgroup), bench.data / "log")
            handle = await runtime.create(creation)
            await runtime.start(handle)
            ended = await runtime.wait(handle)
    except (RuntimeFailed, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        with anyio.CancelScope(shield=True):
            await _forget(runtime, container_id)
            shutil.rmtree(bench.data, ignore_errors=True)
    if ended.code == _UNFILTERED_CODE:
        return "system calls of a trial container were not filtered (seccomp)"
    return "" if ended.code == _SENTINEL_CODE else f"a trial container ended with {ended.code}"


async def _forget(runtime: oci.OciRuntime, container_id: str) -> None:
    try:
        await runtime.delete(container_id)
    except RuntimeFailed as error:
        _log.warning("trial_left_behind", container=container_id, error=str(error))


def _trial_spec(bench: oci.Folders, cgroup: str) -> dict[str, Any]:
    root = bench.data / "root"
    root.mkdir(exist_ok=True)
    binds = [
        spec.bind(source, source, read_only=True)
        for source in ("/usr", "/bin", "/lib", "/lib64")
        if Path(source).exists()
    ]
    return spec.runtime_spec(
        spec.Container(
            rootfs=str(root),
            args=("/bin/sh", "-c", _TRIAL),
            cgroup=f"{cgroup}/trial",
            mounts=tuple(binds),
            namespaces={"network": "", "ipc": "", "uts": ""},
            seccomp=seccomp.default(spec.DEFAULT_CAPABILITIES),
        )
    )


def _file(folders: oci.Folders, preferred: str) -> Path:
    return folders.run / (f"runtime-{preferred}.json" if preferred else "runtime.json")


def _remember(folders: oci.Folders, preferred: str, binary: oci.Binary) -> None:
    document = {
        "boot": linux.boot_id(),
        "name": binary.name,
        "path": binary.path,
        "version": binary.version,
        "wrapper": binary.wrapper,
    }
    files.replace(_file(folders, preferred), json.dumps(document).encode(), durable=False)


def _remembered(folders: oci.Folders, preferred: str) -> oci.Binary | None:
    content = files.read(_file(folders, preferred))
    if content is None:
        return None
    document = json.loads(content)
    is_current = (
        document["boot"] == linux.boot_id() and "path" in document and os.access(document["path"], os.X_OK)
    )
    if not is_current or (preferred and document["name"] != preferred):
        return None
    return oci.Binary(document["name"], document["path"], document["version"], document["wrapper"])

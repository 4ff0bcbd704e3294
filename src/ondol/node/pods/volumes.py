"""Volumes of a pod: what their files hold (pure) and how they are put in place.

Files of ConfigMaps, Secrets, projections and the downward API are replaced together: a new
directory is filled and the link `..data` is swung over to it, so a reader never sees a mixture.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from ondol.api import objects, pod_references
from ondol.base import errors, quantity
from ondol.node import linux, paths
from ondol.node.pods import env, model

Spec = Mapping[str, Any]


class File(NamedTuple):
    """Content, mode and owner; root's if None."""

    content: bytes
    mode: int
    owner: int | None = None


Payload = dict[str, File]
"""By relative path."""

_DEFAULT_MODE: Final = 0o644
_TOKEN_MODE: Final = 0o600
"""Of tokens in pods that say whose their files are: the one user's, or by `fsGroup` the group's, too."""
_WRITTEN: Final = ("configMap", "secret", "projected", "downwardAPI")
_PROJECTED: Final = ("configMap", "secret", "downwardAPI", "serviceAccountToken")
_CHANGING: Final = ("metadata.labels", "metadata.annotations")
SUPPORTED: Final = (*_WRITTEN, "emptyDir", "hostPath")


class VolumeFailed(errors.OndolError):
    """A volume cannot be made (yet); event FailedMount."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service account token a projected volume asks for."""

    volume: str
    path: str
    audience: str
    expiration_s: int


def kind(volume: Spec) -> str:
    return next((key for key in volume if key != "name"), "emptyDir")


def unsupported(volume: Spec) -> list[str]:
    """What of a volume of a kind this node has it cannot make."""
    medium = (volume.get("emptyDir") or {}).get("medium")
    found = [] if medium in (None, "", "Memory") else [f"emptyDir.medium={medium}"]
    sources = (volume.get("projected") or {}).get("sources") or ()
    return found + [f"projected.{key}" for source in sources for key in source if key not in _PROJECTED]


def token_requests(pod: Spec) -> Iterator[TokenRequest]:
    for volume in objects.spec(pod).get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            asked = source.get("serviceAccountToken")
            if asked:
                expiration_s = int(asked.get("expirationSeconds") or 3600)
                yield TokenRequest(volume["name"], asked["path"], asked.get("audience") or "", expiration_s)


def shown_metadata(pod: Spec) -> Mapping[str, Any]:
    """Of the pod's own metadata what its volumes show and may change while it runs; empty if they do not."""
    listed = objects.spec(pod).get("volumes") or ()
    sources = [s for v in listed for s in (v, *((v.get("projected") or {}).get("sources") or ()))]
    items = [item for s in sources for item in (s.get("downwardAPI") or {}).get("items") or ()]
    paths = {str((item.get("fieldRef") or {}).get("fieldPath") or "") for item in items}
    return {path: env.field_value(pod, path, env.PodFacts()) for path in paths if path.startswith(_CHANGING)}


def references(pod: Spec) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the ConfigMaps and Secrets the pod refers to, in volumes and environments."""
    spec = objects.spec(pod)
    return pod_references.of_volumes(spec) | pod_references.of_environments(spec)


def payload(
    pod: Spec, volume: Spec, sources: env.Sources, facts: env.PodFacts, tokens: Mapping[TokenRequest, str]
) -> Payload:
    """The files of a written volume."""
    which = kind(volume)
    body: Mapping[str, Any] = volume[which] or {}
    given = _Given(pod, volume["name"], _mode(body.get("defaultMode"), _DEFAULT_MODE), sources, facts, tokens)
    if which != "projected":
        return _projection({which: body}, given)
    found: Payload = {}
    for source in body.get("sources") or ():
        found |= _projection(source, given)
    return found


@dataclass(frozen=True, slots=True)
class _Given:
    """What all sources of one volume share."""

    pod: Spec
    volume: str
    mode: int
    sources: env.Sources
    facts: env.PodFacts
    tokens: Mapping[TokenRequest, str]


def _projection(source: Spec, given: _Given) -> Payload:
    if "configMap" in source:
        name = source["configMap"]["name"]
        return _keys("configmap", name, source["configMap"], given.sources.config_maps.get(name), given.mode)
    if "secret" in source:
        name = source["secret"].get("secretName") or source["secret"]["name"]
        return _keys("secret", name, source["secret"], given.sources.secrets.get(name), given.mode)
    if "downwardAPI" in source:
        return {
            item["path"]: File(
                _downward(given.pod, item, given.facts).encode(),
                _mode(item.get("mode"), given.mode),
            )
            for item in source["downwardAPI"].get("items") or ()
        }
    if "serviceAccountToken" in source:
        return _token(source["serviceAccountToken"]["path"], given)
    raise VolumeFailed(f"volume {given.volume}: source {sorted(source)} is not supported")


def _token(path: str, given: _Given) -> Payload:
    for asked, token in given.tokens.items():
        if (asked.volume, asked.path) == (given.volume, path):
            user = model.only_user(given.pod)
            is_owned = user is not None or model.fs_group(given.pod) is not None
            return {path: File(token.encode(), _TOKEN_MODE if is_owned else given.mode, user)}
    raise VolumeFailed(f"volume {given.volume}: the service account token was not issued yet")


def _downward(pod: Spec, item: Spec, facts: env.PodFacts) -> str:
    if "fieldRef" in item:
        return env.field_value(pod, item["fieldRef"]["fieldPath"], facts)
    named = item["resourceFieldRef"]["containerName"]
    container = next((c for c in model.all_containers(pod) if c["name"] == named), None)
    if container is None:
        raise VolumeFailed(f"resourceFieldRef names container {named}, which the pod does not have")
    return env.resource_value(pod, container, item["resourceFieldRef"], facts)


def _keys(what: str, name: str, source: Spec, obj: Mapping[str, Any] | None, mode: int) -> Payload:
    if obj is None:
        if source.get("optional"):
            return {}
        raise VolumeFailed(f'{what} "{name}" not found')
    values = env.decoded(obj)
    if not source.get("items"):
        return {key: File(value, mode) for key, value in values.items()}
    found: Payload = {}
    for item in source["items"]:
        if item["key"] in values:
            found[item["path"]] = File(values[item["key"]], _mode(item.get("mode"), mode))
        elif not source.get("optional"):
            raise VolumeFailed(f"{what} {name} has no key {item['key']}")
    return found


def _mode(given: int | None, default: int) -> int:
    return default if given is None else int(given)


def is_written(volume: Spec) -> bool:
    return kind(volume) in _WRITTEN


def place(folder: Path, volume: Spec, *, fs_group: int | None) -> None:
    """Make an emptyDir or check a hostPath; blocks."""
    which = kind(volume)
    body: Mapping[str, Any] = volume.get(which) or {}
    if which == "emptyDir":
        _empty_dir(folder, body, fs_group)
    elif which == "hostPath":
        _host_path(Path(body["path"]), str(body.get("type") or ""))
    elif which not in SUPPORTED:
        raise VolumeFailed(f"volume {volume['name']}: type {which} is not supported on this node")


def _empty_dir(folder: Path, body: Spec, fs_group: int | None) -> None:
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if body.get("medium") == "Memory" and not os.path.ismount(folder):
        limit = body.get("sizeLimit")
        options = "mode=1777" + (f",size={quantity.bytes_of(limit)}" if limit else "")
        linux.mount("tmpfs", str(folder), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
        is_new = True
    if is_new:
        folder.chmod(0o777)
        if fs_group is not None:
            os.chown(folder, -1, fs_group)
            folder.chmod(0o2777)


_HOST_CHECKS: Final = {
    "Directory": Path.is_dir,
    "File": Path.is_file,
    "Socket": Path.is_socket,
    "CharDevice": Path.is_char_device,
    "BlockDevice": Path.is_block_device,
}


def _host_path(path: Path, type: str) -> None:
    if type == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif type == "FileOrCreate":
        path.touch(mode=0o644)
    elif type and not _HOST_CHECKS[type](path):
        raise VolumeFailed(f"hostPath type check failed: {path} is not a {type}")


def write(folder: Path, files: Payload, *, fs_group: int | None, revision: str) -> bool:
    """Put the payload in place in one step; False when it already is. Blocks."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    if _current(folder) == {path: file.content for path, file in files.items()}:
        return False
    fresh = folder / f"..{revision}"
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o755)
    for path, file in files.items():
        _write_file(fresh, path, file, fs_group)
    _swing(folder, fresh, files)
    return True


def _point(link: Path, target: str) -> None:
    """Make the link; a folder in its place was made for a `subPath` that was not there at the time."""
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)  # containers that have it mounted keep it until they start anew
    if not link.is_symlink():
        link.symlink_to(target)


def _write_file(root: Path, path: str, file: File, fs_group: int | None) -> None:
    target = root / path
    if path.startswith("..") or ".." in Path(path).parts or Path(path).is_absolute():
        raise VolumeFailed(f"path {path!r} leads out of the volume")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.content)
    os.chown(target, -1 if file.owner is None else file.owner, -1 if fs_group is None else fs_group)
    target.chmod(file.mode if fs_group is None else file.mode | 0o440)


def _current(folder: Path) -> dict[str, bytes] | None:
    data = folder / "..data"
    if not data.exists():
        return None
    return {str(p.relative_to(data)): p.read_bytes() for p in sorted(data.rglob("*")) if p.is_file()}


def _swing(folder: Path, fresh: Path, files: Payload) -> None:
    data = folder / "..data"
    former = data.resolve() if data.is_symlink() else None
    beside = folder / "..data_tmp"
    beside.unlink(missing_ok=True)
    beside.symlink_to(fresh.name)
    beside.replace(data)
    heads = {Path(path).parts[0] for path in files}
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in heads:
            entry.unlink()
    for head in heads:
        _point(folder / head, f"..data/{head}")
    if former is not None and former != fresh:
        shutil.rmtree(former, ignore_errors=True)


@contextmanager
def sub_path(folder: Path, path: str) -> Iterator[int]:
    """A descriptor of what a `subPath` of a volume is, open for the length of a block.

    What is missing is made as a folder like the volume's own, as the kubelet does. Links may not lead out
    of the volume, whatever containers that have it mounted do meanwhile. Blocks.
    """
    if path.startswith("/") or ".." in path.split("/"):
        raise VolumeFailed(f"subPath {path!r} must be relative and without '..'")
    with ExitStack() as stack:
        try:
            own = folder.stat()
            missing = paths.NewFolder(stat.S_IMODE(own.st_mode), gid=own.st_gid)
            descriptor = stack.enter_context(paths.opened(folder, path, missing=missing))
        except paths.PathEscapes as error:
            raise VolumeFailed(f"subPath {path!r} leads out of the volume") from error
        except OSError as error:
            raise VolumeFailed(f"subPath {path!r} cannot be opened: {error.strerror}") from error
        yield descriptor

"""Puts the calling process into a container as its runtime spec says: what crun does, in the same order.

What the spec names on the machine (files of binds, namespaces) is opened before the root changes, and mounted
after it: no link that an image brings can lead a mount out of the container's root. `unfit` says what of a
spec is not done here; such a container is made by the ordinary runtime.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from . import calls, capabilities, groups

Spec = Mapping[str, Any]

_SAFE: Final = frozenset({*capabilities.DEFAULT, "CAP_NET_RAW"})
_NAMESPACES: Final = {"network": calls.NEWNET, "ipc": calls.NEWIPC, "uts": calls.NEWUTS}
_FRESH: Final = {"mount", "pid", "cgroup"}
_FLAGS: Final = {
    "ro": calls.MS_RDONLY,
    "nosuid": calls.MS_NOSUID,
    "nodev": calls.MS_NODEV,
    "noexec": calls.MS_NOEXEC,
    "relatime": calls.MS_RELATIME,
    "strictatime": calls.MS_STRICTATIME,
    "rw": 0,
}
_ATTRIBUTES: Final = {
    "ro": calls.ATTR_RDONLY,
    "nosuid": calls.ATTR_NOSUID,
    "nodev": calls.ATTR_NODEV,
    "noexec": calls.ATTR_NOEXEC,
}
_PLAIN_BIND: Final = {"rbind", "rprivate", "ro", "rw", "nosuid", "nodev", "noexec"}
_KINDS: Final = {"proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "bind"}
_NODES: Final = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS: Final = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
_SPEC_FIELDS: Final = {"ociVersion", "process", "root", "mounts", "annotations", "linux"}
_PROCESS_FIELDS: Final = {
    "terminal",
    "user",
    "args",
    "env",
    "cwd",
    "capabilities",
    "noNewPrivileges",
    "oomScoreAdj",
}
_LINUX_FIELDS: Final = {
    "namespaces",
    "cgroupsPath",
    "resources",
    "maskedPaths",
    "readonlyPaths",
    "seccomp",
}


def unfit(spec: Spec) -> str:
    """What of the spec is not done here; empty where nothing is."""
    process, linux = spec["process"], spec["linux"]
    unknown = [
        *(set(spec) - _SPEC_FIELDS),
        *(set(process) - _PROCESS_FIELDS),
        *(set(linux) - _LINUX_FIELDS),
    ]
    if unknown:
        return f"field {min(unknown)}"
    if process.get("terminal"):
        return "a terminal"
    kinds = {each["type"]: str(each.get("path") or "") for each in linux["namespaces"]}
    if {kind for kind, path in kinds.items() if not path} != _FRESH:
        return "its namespaces"
    if {kind for kind, path in kinds.items() if path} != set(_NAMESPACES):
        return "its namespaces"
    granted = {name for names in process["capabilities"].values() for name in names}
    if granted - _SAFE:
        return f"capability {min(granted - _SAFE)}"
    if process["user"]["uid"] != 0 and process["capabilities"]["permitted"]:
        return "capabilities of another user than root"
    if process["capabilities"]["inheritable"] or process["capabilities"]["ambient"]:
        return "capabilities that are inherited"
    if linux["resources"].get("devices") != [{"allow": False, "access": "rwm"}]:
        return "its devices"
    return _unfit_mount(spec["mounts"])


def _unfit_mount(mounts: Sequence[Spec]) -> str:
    for mount in mounts:
        if mount["type"] not in _KINDS:
            return f"a mount of type {mount['type']}"
        if mount["type"] == "bind" and set(mount["options"]) - _PLAIN_BIND:
            return f"a mount with {min(set(mount['options']) - _PLAIN_BIND)}"
    return ""


def enter(spec: Spec, group: str) -> None:
    """Everything but the loss of rights: namespaces, root, mounts. The process is in its groups already."""
    linux = spec["linux"]
    for namespace in linux["namespaces"]:
        if path := namespace.get("path"):
            calls.enter(path, _NAMESPACES[namespace["type"]])
    calls.join_new_session_keyring()
    calls.unshare(calls.NEWNS)
    calls.mount("none", "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    root = spec["root"]["path"]
    trees = {index: _tree(mount) for index, mount in enumerate(spec["mounts"]) if mount["type"] == "bind"}
    nothing = {path: calls.open_tree("/dev/null", recursive=False) for path in linux["maskedPaths"]}
    views = () if groups.is_unified() else groups.views(group)
    control = [(name, calls.open_tree(folder, recursive=False)) for name, folder in views]
    links = list(groups.links()) if control else []
    os.chdir(root)
    calls.pivot_root(".", ".")
    calls.detach(".")
    os.chdir("/")
    for index, mount in enumerate(spec["mounts"]):
        _mount(mount, trees.get(index, -1), control, links)
    _fill_dev()
    for path in linux["maskedPaths"]:
        _mask(path, nothing[path])
    _make_read_only(linux["readonlyPaths"])
    if spec["root"].get("readonly"):
        calls.mount("none", "/", flags=calls.MS_REMOUNT | calls.MS_BIND | calls.MS_RDONLY)


def _tree(mount: Spec) -> int:
    options = mount["options"]
    tree = calls.open_tree(mount["source"], recursive="rbind" in options)
    added = sum(_ATTRIBUTES.get(option, 0) for option in set(options))
    # As with crun, what the options do not name does not hold, whatever holds where the source is.
    removed = sum(_ATTRIBUTES.values()) & ~added
    calls.mount_setattr(tree, added=added, removed=removed, propagation=0, recursive=False)
    calls.mount_setattr(tree, added=0, propagation=calls.MS_PRIVATE, recursive=True)
    return tree


def _mount(
    mount: Spec, tree: int, control: Sequence[tuple[str, int]], links: Sequence[tuple[str, str]]
) -> None:
    target = mount["destination"]
    if tree >= 0:
        _make_place(target, is_folder=stat.S_ISDIR(os.fstat(tree).st_mode))
        calls.move_mount(tree, target)
        os.close(tree)
        return
    _make_place(target, is_folder=True)
    flags = sum(_FLAGS[option] for option in mount["options"] if option in _FLAGS)
    words = [option for option in mount["options"] if option not in _FLAGS]
    if mount["type"] == "cgroup" and not control:
        calls.mount("cgroup", target, "cgroup2", flags)
    elif mount["type"] == "cgroup":
        _mount_control_groups(target, flags, control, links)
    else:
        if mount["type"] == "sysfs":
            flags &= ~calls.MS_RELATIME
        is_read_only = bool(flags & calls.MS_RDONLY)
        calls.mount(mount["source"], target, mount["type"], flags & ~calls.MS_RDONLY, ",".join(words))
        if is_read_only:
            calls.mount("none", target, flags=flags | calls.MS_REMOUNT | calls.MS_BIND)


def _mount_control_groups(
    target: str, flags: int, control: Sequence[tuple[str, int]], links: Sequence[tuple[str, str]]
) -> None:
    shared = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
    calls.mount("cgroup", target, "tmpfs", shared, "size=1024k,mode=755")
    attributes = calls.ATTR_NOSUID | calls.ATTR_NODEV | calls.ATTR_NOEXEC | calls.ATTR_RDONLY
    for name, tree in control:
        Path(f"{target}/{name}").mkdir(0o755)
        calls.mount_setattr(tree, added=attributes, propagation=calls.MS_PRIVATE, recursive=False)
        calls.move_mount(tree, f"{target}/{name}")
        os.close(tree)
    for name, place in links:
        Path(f"{target}/{name}").symlink_to(place)
    if flags & calls.MS_RDONLY:
        calls.mount("none", target, flags=flags | calls.MS_REMOUNT | calls.MS_BIND)


def _make_place(path: str, *, is_folder: bool) -> None:
    """What a mount needs to stand on, where the image has none."""
    if Path(path).exists():
        return
    folder = Path(path) if is_folder else Path(path).parent
    folder.mkdir(0o755, parents=True, exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _fill_dev() -> None:
    for name, major, minor in _NODES:
        path = f"/dev/{name}"
        if not Path(path).exists():
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            Path(path).chmod(0o666)
    for name, place in _LINKS:
        if not os.path.lexists(f"/dev/{name}"):
            Path(f"/dev/{name}").symlink_to(place)


def _mask(path: str, nothing: int) -> None:
    try:
        is_folder = stat.S_ISDIR(Path(path).stat().st_mode)
    except OSError:
        os.close(nothing)
        return  # this machine has none
    if is_folder:
        calls.mount("tmpfs", path, "tmpfs", calls.MS_RDONLY, "size=0k")
    else:
        calls.mount_setattr(nothing, added=calls.ATTR_RDONLY, propagation=calls.MS_PRIVATE, recursive=False)
        calls.move_mount(nothing, path)
    os.close(nothing)


def _make_read_only(paths: Sequence[str]) -> None:
    for path in paths:
        if Path(path).exists():
            kept = _kept_flags(path)
            calls.mount(path, path, flags=calls.MS_BIND | calls.MS_REC)
            calls.mount("none", path, flags=kept | calls.MS_REMOUNT | calls.MS_BIND | calls.MS_RDONLY)


def _kept_flags(path: str) -> int:
    """What holds for the file system there already, and must not be given up by a remount."""
    flags = os.statvfs(path).f_flag
    kept = {os.ST_NOSUID: calls.MS_NOSUID, os.ST_NODEV: calls.MS_NODEV, os.ST_NOEXEC: calls.MS_NOEXEC}
    return sum(ours for theirs, ours in kept.items() if flags & theirs)


def give_up_rights(spec: Spec, filter_: bytes) -> None:
    """The user, groups, capabilities and system calls that the spec leaves to the process, for good."""
    process = spec["process"]
    user, sets = process["user"], process["capabilities"]
    if (score := process.get("oomScoreAdj")) is not None:
        with Path("/proc/self/oom_score_adj").open("w", encoding="ascii") as file:
            file.write(str(score))
    for number in (1, 2):  # the program may open its output anew by its name
        os.fchown(number, user["uid"], user["gid"])
    os.chown("/dev/null", user["uid"], user["gid"])
    if filter_ and not process.get("noNewPrivileges"):
        calls.filter_system_calls(filter_)
    bounding = _mask_of(sets["bounding"])
    for number in _numbers():
        if not bounding >> number & 1:
            calls.prctl(calls.PR_CAPBSET_DROP, number)
    os.setgroups(user.get("additionalGids") or [])
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])
    effective, permitted = _mask_of(sets["effective"]), _mask_of(sets["permitted"])
    calls.set_capabilities(effective=effective, permitted=permitted, inheritable=0)
    calls.prctl(calls.PR_CAP_AMBIENT, calls.AMBIENT_CLEAR_ALL)
    if process.get("noNewPrivileges"):
        calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
        if filter_:
            calls.filter_system_calls(filter_)
    # As after an exec; who began as root is nobody's to look into otherwise, not even its own.
    calls.prctl(calls.PR_SET_DUMPABLE, 1)


def _mask_of(names: Sequence[str]) -> int:
    return sum(1 << capabilities.ALL.index(name) for name in set(names))


def _numbers() -> Iterator[int]:
    with Path("/proc/sys/kernel/cap_last_cap").open(encoding="ascii") as file:
        yield from range(int(file.read()) + 1)

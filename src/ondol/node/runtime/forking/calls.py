"""The system calls that the standard library lacks, by their numbers on x86-64 where libc may lack them."""

from __future__ import annotations

import ctypes
import os
from typing import Final

NEWNS: Final = 0x00020000
NEWCGROUP: Final = 0x02000000
NEWUTS: Final = 0x04000000
NEWIPC: Final = 0x08000000
NEWPID: Final = 0x20000000
NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MS_SHARED: Final = 0x100000
MS_RELATIME: Final = 0x200000
MS_STRICTATIME: Final = 0x1000000
MNT_DETACH: Final = 0x2

ATTR_RDONLY: Final = 0x1
ATTR_NOSUID: Final = 0x2
ATTR_NODEV: Final = 0x4
ATTR_NOEXEC: Final = 0x8

AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
_AT_FDCWD: Final = -100
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4

PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_MM: Final = 35
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
MM_ARG_END: Final = 9
AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
_CAP_VERSION_3: Final = 0x20080522

_SYS_CAPSET: Final = 126
_SYS_PIVOT_ROOT: Final = 155
_SYS_KEYCTL: Final = 250
_SYS_BPF: Final = 321
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(outcome: int, what: str) -> int:
    if outcome < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return outcome


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def enter(path: str, kind: int) -> None:
    """Join the namespace that the file stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, kind), f"setns {path}")
    finally:
        os.close(descriptor)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    outcome = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _checked(outcome, f"mount {kind or 'bind'} {target}")


def detach(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    _checked(_libc.syscall(_SYS_PIVOT_ROOT, new.encode(), old.encode()), "pivot_root")


def open_tree(path: str, *, recursive: bool) -> int:
    """A copy of what is mounted there, attached nowhere yet."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return _checked(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, path.encode(), flags), f"open_tree {path}")


def move_mount(tree: int, target: str) -> None:
    outcome = _libc.syscall(
        _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    )
    _checked(outcome, f"move_mount {target}")


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def mount_setattr(tree: int, *, added: int, propagation: int, recursive: bool, removed: int = 0) -> None:
    """Change what holds for a copy that `open_tree` gave."""
    attributes = _Attributes(added, removed, propagation, 0)
    flags = ctypes.c_uint(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0))
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    outcome = _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes), size)
    _checked(outcome, "mount_setattr")


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    arguments = [ctypes.c_ulong(each) for each in (first, second, 0, 0)]
    _checked(_libc.prctl(option, *arguments), f"prctl {option}")


def name_process(name: str) -> None:
    text = ctypes.create_string_buffer(name.encode()[:15])
    _checked(_libc.prctl(PR_SET_NAME, text, 0, 0, 0), "prctl name")


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def set_capabilities(*, effective: int, permitted: int, inheritable: int) -> None:
    header = _Header(_CAP_VERSION_3, 0)
    halves = (_Sets * 2)()
    for index, half in enumerate(halves):
        shift = 32 * index
        half.effective = effective >> shift & 0xFFFFFFFF
        half.permitted = permitted >> shift & 0xFFFFFFFF
        half.inheritable = inheritable >> shift & 0xFFFFFFFF
    _checked(_libc.syscall(_SYS_CAPSET, ctypes.byref(header), halves), "capset")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def filter_system_calls(program: bytes) -> None:
    """Have the kernel apply a compiled seccomp filter from here on."""
    described = _Program(len(program) // 8, program)
    arguments = (ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(described), 0, 0)
    _checked(_libc.prctl(PR_SET_SECCOMP, *arguments), "seccomp")


def bpf(command: int, attributes: bytes) -> int:
    """`bpf(2)` with the attributes as the kernel lays them out."""
    words = ctypes.create_string_buffer(attributes, len(attributes))
    return _checked(_libc.syscall(_SYS_BPF, command, words, ctypes.c_uint(len(attributes))), f"bpf {command}")


def join_new_session_keyring() -> None:
    _checked(_libc.syscall(_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")

"""Seccomp profiles as the kernel takes them, compiled once by libseccomp and not anew for every container.

A runtime that compiles the profile itself spends more on it than on all else it does for a container. crun
takes the compiled filter beside the profile; the profile stays what counts for a runtime that does not.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import Mapping
from typing import Any, Final

_LIBRARY: Final = "libseccomp.so.2"
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EPERM: Final = 1
_OPERATORS: Final = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_OPTIMIZE: Final = 8  # SCMP_FLTATR_CTL_OPTIMIZE; 2 sorts the calls into a tree instead of a line
_TREE: Final = 2
_EXISTS: Final = -17  # the machine's own architecture is there from the start


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Unknown(Exception):
    """The profile, or the library, has something that is not known here."""


def compiled(profile: Mapping[str, Any]) -> bytes | None:
    """The filter of an OCI profile that allows and refuses calls; None where only the runtime can make it.

    Blocks a tenth of a second for a profile that was not seen before.
    """
    return _compiled(json.dumps(profile))


@functools.lru_cache(maxsize=64)
def _compiled(profile: str) -> bytes | None:
    try:
        library = _library()
        filter_ = _Filter(library, json.loads(profile))
    except (OSError, AttributeError, KeyError, _Unknown):
        return None
    try:
        return filter_.exported()
    finally:
        filter_.release()


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    rule = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison))
    library.seccomp_rule_add_array.argtypes = rule
    return library


class _Filter:
    """libseccomp's filter, made as crun and runc make it."""

    def __init__(self, library: ctypes.CDLL, profile: Mapping[str, Any]) -> None:
        self._library = library
        self._context = library.seccomp_init(
            _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
        )
        try:
            self._fill(profile)
        except BaseException:
            self.release()
            raise

    def _fill(self, profile: Mapping[str, Any]) -> None:
        if set(profile) - {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}:
            raise _Unknown(sorted(profile))
        self._library.seccomp_attr_set(self._context, _OPTIMIZE, _TREE)  # an older one knows only the line
        for name in profile.get("architectures") or ():
            token = self._library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            self._demand(self._library.seccomp_arch_add(self._context, token) in (0, _EXISTS))
        for rule in profile.get("syscalls") or ():
            self._add(rule)

    def _add(self, rule: Mapping[str, Any]) -> None:
        action = _action(rule["action"], rule.get("errnoRet"))
        arguments = [
            _Comparison(a["index"], _OPERATORS[a["op"]], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args") or ()
        ]
        comparisons = (_Comparison * len(arguments))(*arguments)
        for name in rule["names"]:
            number = self._library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:  # a call that is newer than the library falls under the default
                result = self._library.seccomp_rule_add_array(
                    self._context, action, number, len(arguments), comparisons
                )
                self._demand(result == 0)

    def _demand(self, is_done: bool) -> None:
        if not is_done:
            raise _Unknown("libseccomp refused")

    def exported(self) -> bytes | None:
        descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - not a path but a descriptor
            if self._library.seccomp_export_bpf(self._context, descriptor) != 0:
                return None
            file.seek(0)
            return file.read()

    def release(self) -> None:
        self._library.seccomp_release(self._context)


def _action(name: str, number: int | None) -> int:
    if name == "SCMP_ACT_ALLOW":
        return _ALLOW
    if name == "SCMP_ACT_ERRNO":
        return _ERRNO | (_EPERM if number is None else number)
    raise _Unknown(name)

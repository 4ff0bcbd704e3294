"""Which devices a control group of version 2 may open: a program of the kernel's, attached to the group.

The same rules as version 1 has in `devices.allow`, each a `type major:minor access`; what no rule allows is
refused (Linux' `Documentation/admin-guide/cgroup-v2.rst`, "Device controller"; `struct bpf_cgroup_dev_ctx`).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from typing import Final

from . import calls

_TYPES: Final = {"b": 1, "c": 2}
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}
_ANY: Final = "*"

# The instructions that are used (`Documentation/bpf/standardization/instruction-set.rst`).
_LOAD: Final = 0x61
_AND: Final = 0x57
_SHIFT_RIGHT: Final = 0x77
_COPY: Final = 0xBF
_SET: Final = 0xB7
_JUMP_UNLESS: Final = 0x55
_JUMP_UNLESS_SAME: Final = 0x5D
_EXIT: Final = 0x95
_RESULT, _CONTEXT, _TYPE, _ASKED, _MAJOR, _MINOR = range(6)
"""Registers: 0 is what the program answers, 1 comes with the context and is free once that is read."""

_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2


def program(rules: Sequence[str]) -> bytes:
    """The rules as instructions of eBPF: 1 allows, 0 refuses."""
    read = [
        _instruction(_LOAD, _TYPE, _CONTEXT, 0),
        _instruction(_COPY, _ASKED, _TYPE),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _ASKED, value=16),
        _instruction(_LOAD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD, _MINOR, _CONTEXT, 8),
    ]
    allowing = [instruction for rule in rules for instruction in _rule(rule)]
    return b"".join([*read, *allowing, _instruction(_SET, _RESULT, value=0), _instruction(_EXIT)])


def _rule(text: str) -> list[bytes]:
    """Answer 1 if all of it fits; else go on behind it."""
    kind, numbers, access = text.split()
    major, minor = numbers.split(":")
    mask = sum(_ACCESS[letter] for letter in access)
    tests: list[tuple[int, int, int, int]] = [(_JUMP_UNLESS, _TYPE, 0, _TYPES[kind])]
    if mask != sum(_ACCESS.values()):
        tests += [(_COPY, _CONTEXT, _ASKED, 0), (_AND, _CONTEXT, 0, mask)]
        tests += [(_JUMP_UNLESS_SAME, _CONTEXT, _ASKED, 0)]
    numbered = ((_MAJOR, major), (_MINOR, minor))
    tests += [(_JUMP_UNLESS, register, 0, int(number)) for register, number in numbered if number != _ANY]
    end = len(tests) + 2
    jumps = (_JUMP_UNLESS, _JUMP_UNLESS_SAME)
    return [
        *(
            _instruction(code, register, other, end - at - 1 if code in jumps else 0, value)
            for at, (code, register, other, value) in enumerate(tests)
        ),
        _instruction(_SET, _RESULT, value=1),
        _instruction(_EXIT),
    ]


def _instruction(code: int, register: int = 0, other: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, other << 4 | register, offset, value)


def allow(folder: str, rules: Sequence[str]) -> None:
    """From now on whoever is in the group may open these, and nothing else; `OSError` if that cannot be."""
    code = program(rules)
    words = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    load = struct.pack(
        "<IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(words),
        ctypes.addressof(license_),
        0,
        0,
        0,
        0,
        0,
        b"ondol_devices",
    )
    loaded = calls.bpf(_PROG_LOAD, load)
    try:
        group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            calls.bpf(_PROG_ATTACH, struct.pack("<IIII", group, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(group)
    finally:
        os.close(loaded)

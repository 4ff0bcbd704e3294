"""A small ELF reader: the parts of a program or shared library that the dynamic linker uses.

Reads the headers, `PT_INTERP` and the dynamic section, in both word sizes and byte orders; nothing
else of the file. Pure but for reading the file it is given.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29

MACHINES: Final = {
    3: "i386",
    21: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}


@dataclass(frozen=True, slots=True)
class Object:
    """One ELF file: `needed` and the search paths as they are written in it."""

    machine: str
    bits: int
    interpreter: str
    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]


class NotElf(ValueError):
    """The file is no ELF file, or is cut short."""


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def is_elf(path: Path) -> bool:
    """Whether the file starts as ELF files do."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def read(path: Path) -> Object:
    """The linker's view of the file; `NotElf` if it is none."""
    with path.open("rb") as file:
        try:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise NotElf(f"{path} is empty") from error
    with view:
        try:
            return _read(view)
        except (struct.error, IndexError, OverflowError) as error:
            raise NotElf(f"{path} is cut short") from error
        except NotElf as error:
            raise NotElf(f"{path} {error}") from None


def _read(view: mmap.mmap) -> Object:
    if view[:4] != _MAGIC:
        raise NotElf("is not an ELF file")
    bits = {1: 32, 2: 64}.get(view[4])
    order = {1: "<", 2: ">"}.get(view[5])
    if bits is None or order is None:
        raise NotElf("has an unknown class or byte order")
    machine = struct.unpack_from(f"{order}H", view, 18)[0]
    segments = _segments(view, bits, order)
    dynamic = _dynamic(view, segments, bits, order)
    strings = _file_offset(segments, next((v for t, v in dynamic if t == _DT_STRTAB), 0))
    texts = {
        tag: tuple(_text(view, strings + value) for t, value in dynamic if t == tag)
        for tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH)
    }
    interpreter = next((s for s in segments if s.kind == _PT_INTERP), None)
    return Object(
        machine=MACHINES.get(machine, f"machine {machine}"),
        bits=bits,
        interpreter=_text(view, interpreter.offset) if interpreter else "",
        soname=next(iter(texts[_DT_SONAME]), ""),
        needed=texts[_DT_NEEDED],
        rpath=_paths(texts[_DT_RPATH]),
        runpath=_paths(texts[_DT_RUNPATH]),
    )


def _segments(view: mmap.mmap, bits: int, order: str) -> list[_Segment]:
    if bits == 64:
        table, (size, count) = struct.unpack_from(f"{order}Q", view, 32)[0], _pair(view, order, 54)
        # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz
        rows = [struct.unpack_from(f"{order}IIQQQQ", view, table + i * size) for i in range(count)]
        return [_Segment(row[0], row[2], row[3], row[5]) for row in rows]
    table, (size, count) = struct.unpack_from(f"{order}I", view, 28)[0], _pair(view, order, 42)
    # p_type, p_offset, p_vaddr, p_paddr, p_filesz
    rows = [struct.unpack_from(f"{order}IIIII", view, table + i * size) for i in range(count)]
    return [_Segment(row[0], row[1], row[2], row[4]) for row in rows]


def _pair(view: mmap.mmap, order: str, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(f"{order}HH", view, offset)
    return first, second


def _dynamic(view: mmap.mmap, segments: list[_Segment], bits: int, order: str) -> list[tuple[int, int]]:
    segment = next((s for s in segments if s.kind == _PT_DYNAMIC), None)
    if segment is None:
        return []  # statically linked
    shape = struct.Struct(f"{order}{'QQ' if bits == 64 else 'II'}")
    entries = []
    for offset in range(segment.offset, segment.offset + segment.size, shape.size):
        tag, value = shape.unpack_from(view, offset)
        if tag == _DT_NULL:
            break
        entries.append((tag, value))
    return entries


def _file_offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    return address


def _text(view: mmap.mmap, offset: int) -> str:
    end = view.find(b"\0", offset)
    if end < 0:
        raise NotElf("has a text without an end")
    return view[offset:end].decode("utf-8", "surrogateescape")


def _paths(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for text in texts for path in text.split(":") if path)

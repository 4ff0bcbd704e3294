"""The ELF reader and the library search, against files made by hand and those of this machine."""

from __future__ import annotations

import contextlib
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.build import elf, libraries
from ondol.build.errors import BuildError

_TAGS = {"needed": 1, "strtab": 5, "soname": 14, "rpath": 15, "runpath": 29}
_HERE = platform.machine()
_NUMBER = {name: number for number, name in elf.MACHINES.items()}


def _elf(
    *,
    machine: str = _HERE,
    needed: tuple[str, ...] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    bits: int = 64,
    order: str = "<",
) -> bytes:
    """A shared library with headers, one loaded segment, a dynamic section and its texts."""
    wide = bits == 64
    header_size, program_size, entry = (64, 56, "QQ") if wide else (52, 32, "II")
    base = 0x10000
    texts = b"\0"
    dynamic: list[tuple[int, int]] = []
    entries = [*(("needed", n) for n in needed), ("soname", soname), ("rpath", rpath), ("runpath", runpath)]
    for tag, text in entries:
        if text:
            dynamic.append((_TAGS[tag], len(texts)))
            texts += text.encode() + b"\0"
    dynamic_offset = header_size + 2 * program_size
    strings_offset = dynamic_offset + struct.calcsize(f"{order}{entry}") * (len(dynamic) + 2)
    dynamic += [(_TAGS["strtab"], base + strings_offset), (0, 0)]
    body = b"".join(struct.pack(f"{order}{entry}", *pair) for pair in dynamic)
    total = strings_offset + len(texts)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + b"\0" * 9
    pointer = "Q" if wide else "I"
    head = ident + struct.pack(
        f"{order}HHI{pointer}{pointer}{pointer}IHHHHHH",
        3, _NUMBER[machine], 1, 0, header_size, 0, 0, header_size, program_size, 2, 0, 0, 0,
    )  # fmt: skip
    segments = [(1, 0, base, total), (2, dynamic_offset, base + dynamic_offset, len(body))]
    programs = b"".join(
        struct.pack(f"{order}IIQQQQQQ", kind, 4, at, address, address, size, size, 8)
        if wide
        else struct.pack(f"{order}IIIIIIII", kind, at, address, address, size, size, 4, 4)
        for kind, at, address, size in segments
    )
    return head + programs + body + texts


def _library(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_every_class_and_byte_order_is_read(tmp_path: Path, bits: int, order: str) -> None:
    """Names and search paths come out as they were written, on either kind of machine."""
    content = _elf(
        machine="s390x", needed=("liba.so.1", "libb.so"), soname="me.so", runpath="$ORIGIN/x:/y",
        bits=bits, order=order,
    )  # fmt: skip
    library = elf.read(_library(tmp_path, "lib.so", content))
    assert library == elf.Object(
        machine="s390x",
        bits=bits,
        interpreter="",
        soname="me.so",
        needed=("liba.so.1", "libb.so"),
        rpath=(),
        runpath=("$ORIGIN/x", "/y"),
    )


def test_this_python_is_read_as_readelf_reads_it() -> None:
    """On a real program, the needed libraries are those the platform's own tool names."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    try:
        listed = subprocess.run(
            ["readelf", "-d", str(executable)], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("readelf is not installed (binutils)")
    names = tuple(line.split("[")[1].rstrip("]") for line in listed.splitlines() if "(NEEDED)" in line)
    header = elf.read(executable)
    assert header.needed == names
    assert header.machine == _HERE


@given(st.integers(0, 400), st.binary(max_size=8))
def test_damaged_files_are_no_elf_files(cut: int, noise: bytes) -> None:
    """Whatever is cut off or overwritten, the reader answers or says NotElf, never anything else."""
    import tempfile  # noqa: PLC0415 - Hypothesis and function-scoped fixtures do not mix

    content = _elf(needed=("liba.so.1",), runpath="/y")
    with tempfile.NamedTemporaryFile() as file:
        file.write(content[:cut] + noise + content[cut + len(noise) :][: max(0, cut - 100)])
        file.flush()
        with contextlib.suppress(elf.NotElf):
            assert elf.read(Path(file.name)).bits in {32, 64}


def test_the_search_follows_the_linkers_order(tmp_path: Path) -> None:
    """DT_RUNPATH before the cache before the default folders; $ORIGIN is the user's folder."""
    near, cached, default = (tmp_path / name for name in ("near", "cached", "default"))
    for folder in (near, cached, default):
        _library(folder, "liba.so", _elf())
    program = _library(tmp_path, "program", _elf(needed=("liba.so",), runpath="$ORIGIN/near"))
    plain = _library(tmp_path, "plain", _elf(needed=("liba.so",)))
    search = libraries.Search({"liba.so": [str(cached / "liba.so")]}, [str(default)])
    only_folders = libraries.Search({}, [str(default)])

    def names(root: Path, where: libraries.Search) -> set[str]:
        return libraries.closure([root], where, machine=_HERE).files

    assert names(program, search) == {str(near / "liba.so")}
    assert names(plain, search) == {str(cached / "liba.so")}
    assert names(plain, only_folders) == {str(default / "liba.so")}
    assert libraries.closure([plain], search, machine=_HERE).cached == {"liba.so": str(cached / "liba.so")}


def test_rpath_is_inherited_and_runpath_is_not(tmp_path: Path) -> None:
    """A library is searched for its own libraries by its loader's DT_RPATH, as the linker does."""
    _library(tmp_path / "private", "liba.so", _elf(needed=("libb.so",)))
    _library(tmp_path / "private", "libb.so", _elf())
    nowhere = libraries.Search({}, [])
    by_rpath = _library(tmp_path, "one", _elf(needed=("liba.so",), rpath=str(tmp_path / "private")))
    assert len(libraries.closure([by_rpath], nowhere, machine=_HERE).files) == 2
    by_runpath = _library(tmp_path, "two", _elf(needed=("liba.so",), runpath=str(tmp_path / "private")))
    with pytest.raises(BuildError, match=r"liba\.so needs the library libb\.so"):
        libraries.closure([by_runpath], nowhere, machine=_HERE)


def test_libraries_of_another_architecture_are_passed_over(tmp_path: Path) -> None:
    """A candidate for another machine is not taken; a root for another machine is refused."""
    other = "aarch64" if _HERE != "aarch64" else "x86_64"
    _library(tmp_path / "first", "liba.so", _elf(machine=other))
    _library(tmp_path / "second", "liba.so", _elf())
    search = libraries.Search({}, [str(tmp_path / "first"), str(tmp_path / "second")])
    program = _library(tmp_path, "program", _elf(needed=("liba.so",)))
    assert libraries.closure([program], search, machine=_HERE).files == {str(tmp_path / "second" / "liba.so")}
    foreign = _library(tmp_path, "foreign.so", _elf(machine=other))
    with pytest.raises(BuildError, match=f"made for {other}, but this machine is {_HERE}"):
        libraries.closure([foreign], search, machine=_HERE)


def test_libraries_that_need_each_other_end(tmp_path: Path) -> None:
    """A ring of libraries is walked once."""
    _library(tmp_path, "liba.so", _elf(needed=("libb.so",)))
    _library(tmp_path, "libb.so", _elf(needed=("liba.so",)))
    search = libraries.Search({}, [str(tmp_path)])
    assert len(libraries.closure([tmp_path / "liba.so"], search, machine=_HERE).files) == 2


def test_the_linkers_cache_of_this_machine_is_read() -> None:
    """Every entry names a library by the path the cache has for it."""
    cache = libraries.read_cache(Path("/etc/ld.so.cache"))
    if not cache:
        pytest.skip("this machine's linker has no cache of the known form")
    assert any(name.startswith("libc.so") for name in cache)
    assert all(Path(path).name == name for name, paths in cache.items() for path in paths)
    assert not any("glibc-hwcaps" in path for paths in cache.values() for path in paths)

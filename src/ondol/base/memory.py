"""Return freed memory of this process to the machine."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Have the C library return what it keeps for later (malloc_trim(3)); nothing where it cannot.

    Takes some milliseconds, longer with much to return, without the interpreter's lock.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl returns memory by itself
    if trim is not None:
        trim(ctypes.c_size_t(0))

"""nftables in this process through its own library, else through the `nft` command.

One batch is one transaction: all of it holds or none. In-process a small batch takes about 1 ms, a
started `nft` about 20 (decision 0003). Runs in the network namespace of the calling thread.

The library waits for its socket by select(), for which a descriptor of 1024 or more ends the whole
process. A process that holds so many that its next one could be so high starts `nft`, which has none.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from typing import Final

from ondol.base import errors

# Of the 1024 numbers select() can watch a quarter is kept for what other threads open meanwhile.
_DESCRIPTORS_MAX: Final = 768


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_output_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def run(batch: str) -> str:
    """Carry out the batch; its output, or `HostError` with what nftables said."""
    library = _library()
    if library is None or _holds_many_descriptors():
        return _by_command(batch)
    return _by_library(library, batch)


def _holds_many_descriptors() -> bool:
    """A new descriptor gets the lowest free number, so it is no higher than how many there are."""
    return len(os.listdir("/proc/self/fd")) > _DESCRIPTORS_MAX  # noqa: PTH208 - names alone are wanted


def _by_library(library: ctypes.CDLL, batch: str) -> str:
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_buffer_output(context)
        if library.nft_run_cmd_from_buffer(context, batch.encode()) != 0:
            message = library.nft_ctx_get_error_buffer(context) or b""
            raise _refused(message.decode(errors="replace"))
        output: bytes = library.nft_ctx_get_output_buffer(context) or b""
        return output.decode()
    finally:
        library.nft_ctx_free(context)


def _by_command(batch: str) -> str:
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=batch.encode(), capture_output=True, check=False, timeout=30
        )
    except FileNotFoundError as error:
        raise errors.HostError(
            "nftables is not installed", remedy="install it, e.g. apt-get install nftables"
        ) from error
    if done.returncode != 0:
        raise _refused(done.stderr.decode(errors="replace"))
    return done.stdout.decode()


def _refused(message: str) -> errors.HostError:
    return errors.HostError(
        f"nftables refused the rules: {message.strip()[:500]}",
        remedy="check that the kernel has nf_tables with nat, and that this user may change it",
    )

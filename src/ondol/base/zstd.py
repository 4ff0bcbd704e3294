"""Edge to Zstandard: Python's own from 3.14 on, its backport before; loaded by the first such content."""

from __future__ import annotations

import importlib
import sys
from typing import IO, Any, Final

MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""What compressed content begins with."""
_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_WINDOW_LOG_MAX: Final = 27
"""128 MiB: more memory is not taken for one stream, whatever it asks for."""


class ZstdError(ValueError):
    """It is not what Zstandard writes."""


class _Reader:
    """A stream unpacked as it is read."""

    def __init__(self, library: Any, file: Any) -> None:
        self._library = library
        self._file = file

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._file.read(size))
        except self._library.ZstdError as error:
            raise ZstdError(str(error)) from error


def reader(stream: IO[bytes]) -> IO[bytes]:
    """What is packed in the stream, to be read in order. `ZstdError` or `EOFError` where it is damaged."""
    library = importlib.import_module(_MODULE)
    options = {library.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
    return _Reader(library, library.ZstdFile(stream, "rb", options=options))  # type: ignore[return-value]  # it reads like any binary file


def packed(content: bytes) -> bytes:
    """The content, compressed."""
    return bytes(importlib.import_module(_MODULE).compress(content))

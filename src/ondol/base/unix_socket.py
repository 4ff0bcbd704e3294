"""Unix sockets between the platform's own parts: opened for the user who runs them and for nobody else.

Loopback ports are open to every user of the machine and can be taken by whoever is quicker; a socket in
the run folder is neither.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from ondol.base import errors

PREFIX: Final = "unix:"
"""How an address that is a socket begins, for us as for gRPC."""
_PATH_BYTES_MAX: Final = 107
"""`sun_path` has 108 bytes, the last of them zero."""


def listen(path: Path, *, backlog: int = 128) -> socket.socket:
    """A listening stream socket of mode 0600 at `path`, in place of one that a former process left.

    `HostError` when the path is too long for a socket or cannot be written.
    """
    require_short(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.fchmod(listening.fileno(), 0o600)  # before there is a name that others could open
        listening.bind(str(path))
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise errors.HostError(
            f"cannot listen on {path}: {error.strerror}", remedy="make its folder writable"
        ) from error
    return listening


def require_short(path: Path) -> None:
    """`HostError` if the kernel would not take the path for a socket."""
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise errors.HostError(
            f"{path} is too long for a socket: at most {_PATH_BYTES_MAX} bytes",
            remedy="choose a folder with a shorter name",
        )

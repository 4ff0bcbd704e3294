"""The template: makes a blank at each word of the agent, and ends with it."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from . import calls, program, shim

_LOADED: Final = [
    "asyncio",
    "argparse",
    "base64",
    "collections.abc",
    "concurrent.futures.thread",
    "contextlib",
    "contextvars",
    "copy",
    "dataclasses",
    "datetime",
    "email.message",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "email.parser",
    "email.utils",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "html",
    "http.client",
    "http.server",
    "importlib.metadata",
    "importlib.resources",
    "inspect",
    "io",
    "json",
    "logging",
    "logging.config",
    "math",
    "mimetypes",
    "os",
    "pathlib",
    "pickle",
    "queue",
    "random",
    "re",
    "runpy",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "string",
    "struct",
    "subprocess",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "urllib.request",
    "uuid",
    "warnings",
    "weakref",
    "zoneinfo",
]


def serve(control: socket.socket, home: int, shim_group: str) -> str:
    """Make blanks until the agent is gone. Returns only in a container's process: the module it is to run."""
    for name in _LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # shims end by themselves, and nobody asks how
    control.send(b"\n".join(_mapped()))
    while message := control.recv(4096):
        name, group = message.decode().split("\n")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            theirs.close()
            control.close()
            return _contained(shim.run(ours, home, name, group, shim_group))
        ours.close()
        with theirs:
            socket.send_fds(control, [name.encode()], [theirs.fileno()])
    sys.exit(0)


def _contained(process: Mapping[str, Any]) -> str:
    gc.enable()
    return program.become(process)


def _mapped() -> list[bytes]:
    """Files whose code is in this memory, or was read into it."""
    with Path("/proc/self/maps").open("rb") as file:
        mapped = [line.split(None, 5) for line in file]
    paths = {fields[5].strip() for fields in mapped if len(fields) > 5 and b"x" in fields[1]}
    others = [module for name, module in sys.modules.items() if name.partition(".")[0] != "forking"]
    paths |= {os.fsencode(path) for module in others if (path := getattr(module, "__file__", None))}
    return sorted(
        path for path in paths if path.startswith(b"/") and not path.startswith((b"/memfd:", b"/dev/"))
    )


def begin(descriptor: int, home: int, shim_group: str) -> str:
    calls.name_process("ondol-template")
    os.umask(0o022)
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    os.set_inheritable(home, False)
    return serve(control, home, shim_group)

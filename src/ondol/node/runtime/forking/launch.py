"""Starts the template: run by path, it becomes the interpreter that the images have.

The interpreter runs from a sealed copy in memory, so that nobody who is root in a container finds by
`/proc/self/exe` a file of the machine to write to. Where packages are installed here it sees empty folders:
nothing of the machine beside the interpreter and its standard library gets into the template.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Final

_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8  # none more, no shrinking, no growing, no writing
_ADD_SEALS: Final = 1033
_MAIN: Final = (
    "import sys; sys.path.insert(0, {place!r}); from forking import server; sys.path.pop(0);"
    " module = server.begin({control}, {home}, {shim!r}); del server, sys;"
    " __import__('runpy')._run_module_as_main(globals().pop('module'))"
)


def main() -> None:
    place, interpreter, control, shim, *hidden = sys.argv[1:]
    sys.path.insert(0, place)
    from forking import calls  # type: ignore[import-not-found] # noqa: PLC0415 - by the path given

    home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    os.set_inheritable(home, True)
    calls.unshare(calls.NEWNS)
    calls.mount("none", "/", flags=calls.MS_REC | calls.MS_SLAVE)
    for folder in hidden:
        if Path(folder).is_dir():
            calls.mount("tmpfs", folder, "tmpfs", calls.MS_RDONLY, "size=0k")
    program = os.memfd_create("python3", os.MFD_ALLOW_SEALING)
    content = memoryview(Path(interpreter).read_bytes())
    while content:
        content = content[os.write(program, content) :]
    os.fchmod(program, 0o755)
    fcntl.fcntl(program, _ADD_SEALS, _SEALS)
    os.set_inheritable(program, False)
    code = _MAIN.format(place=place, control=control, home=home, shim=shim)
    # The blanks leave room for the command of a container, which takes the place of this one.
    arguments = [interpreter, "-c", code, " " * 4096]
    os.execve(f"/proc/self/fd/{program}", arguments, {"LANG": "C.UTF-8"})  # noqa: S606 - this very process


if __name__ == "__main__":
    main()

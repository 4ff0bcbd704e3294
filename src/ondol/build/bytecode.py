"""Compiled modules that are the same bytes on every run.

Each source is compiled to a `.pyc` of the unchecked-hash kind, which carries no time and which the
interpreter loads without looking at the source: an image never changes, so nothing needs checking.
Compilation runs in a fresh interpreter with a fixed hash seed and an empty environment, one source
after the other in sorted order: what the marshal format writes depends on which strings the
process happens to share, and so only a process with a fixed history writes the same bytes twice.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build.interpreter import Interpreter

# Reads {place in the image: source here}; writes each outcome as a length-prefixed record.
_PROGRAM: Final = """
import json, sys
from importlib._bootstrap_external import _code_to_hash_pyc
from importlib.util import source_hash
out = sys.stdout.buffer
for place, path in sorted(json.load(sys.stdin).items()):
    try:
        with open(path, "rb") as file: source = file.read()
        code = compile(source, place, "exec", dont_inherit=True)
        found, problem = bytes(_code_to_hash_pyc(code, source_hash(source), False)), ""
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        found, problem = b"", (f"line {line}: " if line else "") + (getattr(error, "msg", None) or str(error))
    head = json.dumps([place, len(found), problem]).encode()
    out.write(len(head).to_bytes(4, "big") + head + found)
"""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Bytecode by the place of its source in the image, and why some sources have none."""

    code: Mapping[str, bytes]
    problems: Mapping[str, str]


def cached_path(place: str, python: Interpreter) -> str:
    """Where the interpreter looks for the bytecode of a source."""
    folder, _, name = place.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{python.tag}.pyc"


def compiled(sources: Mapping[str, Path], python: Interpreter) -> Compiled:
    """Compile each source (by its place in the image)."""
    if not sources:
        return Compiled({}, {})
    done = subprocess.run(
        [python.executable, "-S", "-s", "-W", "ignore", "-c", _PROGRAM],
        input=json.dumps({place: str(path) for place, path in sources.items()}).encode(),
        env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
        cwd="/",
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        detail = done.stderr.decode(errors="replace").strip()
        raise errors.HostError(
            f"{python.executable} cannot compile: {detail}",
            remedy="reinstall that Python, or choose another with --python",
        )
    return _parsed(done.stdout)


def _parsed(output: bytes) -> Compiled:
    code: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    at = 0
    while at < len(output):
        length = int.from_bytes(output[at : at + 4], "big")
        place, size, problem = json.loads(output[at + 4 : at + 4 + length])
        at += 4 + length
        if problem:
            problems[place] = problem
        else:
            code[place] = output[at : at + size]
        at += size
    return Compiled(code, problems)

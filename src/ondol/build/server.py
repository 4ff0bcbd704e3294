"""A server that an image has besides the application: files from elsewhere, started in its place.

Whoever serves functions gives one; its layer is the same for all of them, and so is stored once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.build import bytecode, oci
from ondol.build.archive import Tree
from ondol.build.interpreter import Interpreter
from ondol.build.store import ImageStore

_RECIPE: Final = 1


@dataclass(frozen=True, slots=True)
class Server:
    """`files` by their places in the image, and how to start with them."""

    title: str
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    """Where Python looks for modules, after the application's own folders."""


def layer(store: ImageStore, server: Server, python: Interpreter, *, epoch_s: int) -> tuple[oci.Layer, bool]:
    """The server's layer in the store, with the bytecode of its Python files, and whether it was there."""
    contents = {place: path.read_bytes() for place, path in sorted(server.files.items())}
    digest = hashlib.sha256(f"{_RECIPE} {epoch_s} {python.abi} {python.version}".encode())
    for place, content in contents.items():
        digest.update(f"{place}\0{len(content)}\0".encode() + content)
    key = f"server-{digest.hexdigest()[:16]}"
    title = f"ondol: {server.title}"
    record = store.remembered(key)
    if record is not None and store.has(record["digest"]):
        return oci.Layer(record["digest"], record["size"], title), True
    tree = Tree()
    for place, content in contents.items():
        tree.text(place, content)
    sources = {place: path for place, path in server.files.items() if place.endswith(".py")}
    for place, code in bytecode.compiled(sources, python).code.items():
        tree.text(bytecode.cached_path(place, python), code)
    with store.draft() as draft:
        tree.write(draft, epoch_s=epoch_s)
    store.remember(key, {"digest": draft.digest, "size": draft.size_bytes})
    return oci.Layer(draft.digest, draft.size_bytes, title), False

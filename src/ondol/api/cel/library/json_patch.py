"""What an expression that makes a JSON patch may call besides."""

from __future__ import annotations

from typing import Final

from ondol.api.cel import types as t
from ondol.api.cel.functions import Function, function, overload
from ondol.api.cel.library.standard import traversal


def _escaped(key: str) -> str:
    """A key as it stands in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


FUNCTIONS: Final[list[Function]] = [
    function(
        "jsonpatch.escapeKey",
        overload("string_jsonpatch_escapeKey_string", (t.STRING,), t.STRING, _escaped, traversal),
    )
]

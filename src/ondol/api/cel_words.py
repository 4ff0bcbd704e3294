"""The words that CEL keeps for itself, apart from the language so that rules of names need not import it."""

from __future__ import annotations

from typing import Final

RESERVED: Final = frozenset(
    {
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    }
)
"""Names of fields that are these are escaped, and no variable may have one."""

"""Names of fields as expressions write them, since not every JSON key is an identifier of CEL."""

from __future__ import annotations

import re
from typing import Final

from ondol.api import cel_words

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./-]+")
_SPECIAL: Final = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_SPECIALS: Final = re.compile(r"__|[./-]")
_ESCAPED: Final = re.compile(r"__([^_]+)__")
_WORDS: Final = {word.strip("_"): text for text, word in _SPECIAL.items()}


def escaped(key: str) -> str | None:
    """The identifier for a key of JSON; None for keys that have none.

    >>> escaped("foo-bar"), escaped("namespace"), escaped("a__b"), escaped("x y")
    ('foo__dash__bar', '__namespace__', 'a__underscores__b', None)
    """
    if not key or key[0].isdigit() or not _PLAIN.fullmatch(key):
        return None
    if key in cel_words.RESERVED:
        return f"__{key}__"
    return _SPECIALS.sub(lambda match: _SPECIAL[match[0]], key)


def unescaped(name: str) -> str:
    """The key an identifier stands for; the name itself where it is not escaped.

    >>> unescaped("foo__dash__bar"), unescaped("__namespace__"), unescaped("plain")
    ('foo-bar', 'namespace', 'plain')
    """
    if "__" not in name:
        return name
    whole = _ESCAPED.fullmatch(name)
    if whole is not None and whole[1] in cel_words.RESERVED:
        return whole[1]
    return _ESCAPED.sub(lambda match: _WORDS.get(match[1], match[0]), name)

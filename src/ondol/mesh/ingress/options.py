"""The annotations of an Ingress that act: those of ingress-nginx whose meaning is kept whole. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import regexp
from ondol.contracts import ingress

_GROUP: Final = re.compile(r"\$([1-9])")
_ESCAPED: Final = re.compile(r"\\.")
_CLASS: Final = re.compile(r"\[[^\]]*\]")
_OPENING: Final = re.compile(r"\((?!\?(?!P<))")
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")


@dataclass(frozen=True, slots=True)
class Options:
    rewrite: str | None = None
    """What takes the place of the path; `\\1` to `\\9` are what the path's groups matched."""
    has_patterns: bool = False
    """Paths are regular expressions from the beginning of the path on, whatever their case."""
    redirects: bool = False
    """HTTP is led to HTTPS where the host has a certificate."""
    always_redirects: bool = False
    problems: tuple[str, ...] = ()


def read(obj: Object) -> Options:
    marks = objects.annotations(obj)
    rewrite, problems = None, []
    if (target := marks.get(ingress.REWRITE_TARGET)) is not None:
        rest = _GROUP.sub("", target)
        if "$" in rest or not target.startswith("/"):
            problems.append(
                f"annotation {ingress.REWRITE_TARGET}: {target!r} is no path with groups $1 to $9: ignored"
            )
        else:
            rewrite = _GROUP.sub(r"\\\1", target.replace("\\", "\\\\"))
    problems += [
        f"annotation {name} is not acted on"
        for name in sorted(marks)
        if name.startswith(ingress.NGINX) and name not in ingress.ACTED_ON
    ]
    return Options(
        rewrite,
        rewrite is not None or marks.get(ingress.USE_REGEX) in _TRUE,
        marks.get(ingress.SSL_REDIRECT) in _TRUE,
        marks.get(ingress.FORCE_SSL_REDIRECT) in _TRUE,
        tuple(problems),
    )


def pattern(path: str) -> str:
    """A path that is a pattern, for a match of the whole path; `ValueError` where it is none."""
    text = f"(?i){path}.*"
    regexp.compiled(text)
    return text


def groups(path: str) -> int:
    """How many groups of a pattern a rewrite may name."""
    plain = _CLASS.sub("", _ESCAPED.sub("", path))
    return len(_OPENING.findall(plain))

"""As whom a pod calls: its namespace, and what else DestinationRules may tell callers apart by.

One text, so that it can stand in names: `namespace~group,group@place`. Groups are the objects of the
namespace that choose the pod by its labels; the place is where it runs, as far as rules prefer what is near.
In the name of a cluster the same text is its scope, with the one group that matters there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final, NamedTuple

FILTER: Final = "!"
"""Before the name of a group that is an EnvoyFilter, with its namespace; others are DestinationRules."""
_DOT: Final = "+"
"""Stands for a dot, at which the statistics of a cluster would be parted; no label or name has it."""


class Who(NamedTuple):
    """The parts of the text."""

    namespace: str
    groups: tuple[str, ...] = ()
    place: str = ""


def text(namespace: str, groups: Iterable[str] = (), place: str = "") -> str:
    """The whole; a namespace alone is itself."""
    joined = ",".join(groups)
    return (namespace + (f"~{joined}" if joined else "") + (f"@{place}" if place else "")).replace(".", _DOT)


@functools.lru_cache(maxsize=4096)
def parse(caller: str) -> Who:
    whole, _, place = caller.replace(_DOT, ".").partition("@")
    namespace, _, groups = whole.partition("~")
    return Who(namespace, tuple(groups.split(",")) if groups else (), place)


def at(caller: str, place: str) -> str:
    """The same caller, at a place."""
    who = parse(caller)
    return text(who.namespace, who.groups, place)

"""The completion indexes of Indexed Jobs: which a pod has, and sets of them as a status spells them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from ondol.api import objects

ANNOTATION: Final = "batch.kubernetes.io/job-completion-index"


def of(pod: Mapping[str, Any]) -> int | None:
    """The pod's index; None where it has none that is one."""
    text = objects.annotations(pod).get(ANNOTATION, "")
    return int(text) if text.isascii() and text.isdigit() else None


def parse(text: str, completions: int) -> set[int]:
    """The set behind `1,3-5,7`, below `completions`; parts that are neither number nor range are left out."""
    parsed: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        parsed.update(range(int(first), min(int(last or first), completions - 1) + 1))
    return parsed


def spelled(indexes: Iterable[int]) -> str:
    """The shortest text for a set: neighbours with a comma, three and more as a range."""
    ranges: list[list[int]] = []
    for index in sorted(indexes):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}"
        for first, last in ranges
    )


def first_free(count: int, completions: int, taken: Collection[int]) -> list[int]:
    """The `count` lowest indexes that are not taken; fewer if there are not so many."""
    return list(islice((index for index in range(completions) if index not in taken), count))

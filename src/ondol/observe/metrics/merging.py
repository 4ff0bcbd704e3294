"""Pages of several processes as one page, in Prometheus' text format.

A page is a list of families: lines that begin with `# HELP name` and `# TYPE name`, then the samples. In
the merged page each family stands once, with the samples of all pages, and each sample has a label that
says whose it is::

    # TYPE up gauge            # TYPE up gauge             # TYPE up gauge
    up 1                 and   up{zone="a"} 0      are     up{part="api"} 1
                                                           up{part="node",zone="a"} 0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_HEADER: Final = re.compile(r"# (?:HELP|TYPE) (?P<name>\S+)")
_SAMPLE: Final = re.compile(r"(?P<name>[^\s{]+)(?:\{(?P<labels>.*)\})?(?P<value>\s.*)")
_LABEL: Final = "part"


@dataclass(slots=True)
class _Family:
    header: list[str] = field(default_factory=list)
    """Its HELP and TYPE lines, as the first page that has the family writes them."""
    samples: list[str] = field(default_factory=list)


def merge(pages: Mapping[str, str]) -> str:
    """The pages of parts, by the parts' names, as one; what is neither header nor sample is left out."""
    families: dict[str, _Family] = {}
    for part, page in pages.items():
        _add(families, part, page)
    lines = [line for family in families.values() for line in (*family.header, *family.samples)]
    return "".join(f"{line}\n" for line in lines)


def _add(families: dict[str, _Family], part: str, page: str) -> None:
    earlier = set(families)
    current = ""
    for line in page.split("\n"):
        if (header := _HEADER.match(line)) is not None:
            current = header["name"]
            family = families.setdefault(current, _Family())
            if current not in earlier:
                family.header.append(line)
        elif not line.startswith("#") and (sample := _SAMPLE.fullmatch(line)) is not None:
            # A histogram's samples have suffixes (`_bucket`, `_sum`); one without a header stands alone.
            name = current if current and sample["name"].startswith(current) else sample["name"]
            families.setdefault(name, _Family()).samples.append(_labelled(sample, part))


def _labelled(sample: re.Match[str], part: str) -> str:
    labels = f",{sample['labels']}" if sample["labels"] else ""
    return f'{sample["name"]}{{{_LABEL}="{part}"{labels}}}{sample["value"]}'

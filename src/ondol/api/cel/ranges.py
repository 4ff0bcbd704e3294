"""From the least to the most something may cost, or how large it may be: sums and products of 64 bits.

What would be more than 64 bits hold is SIZE_MAX, which stands for «without bound».
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ondol.api.cel.types import SIZE_MAX

TRAVERSAL: Final = 0.1
"""The cost of a character that is gone over."""
EXPRESSION: Final = 0.25
"""The cost of a character of a regular expression, for each of the text."""


class Range(NamedTuple):
    least: int
    most: int

    def plus(self, other: Range) -> Range:
        return Range(_bounded(self.least + other.least), _bounded(self.most + other.most))

    def times(self, other: Range) -> Range:
        return Range(_bounded(self.least * other.least), _bounded(self.most * other.most))

    def scaled(self, factor: float) -> Range:
        """By a factor, rounded up."""
        return Range(_scaled(self.least, factor), _scaled(self.most, factor))

    def union(self, other: Range) -> Range:
        """From the lesser of the least to the greater of the most."""
        return Range(min(self.least, other.least), max(self.most, other.most))


def fixed(size: int) -> Range:
    return Range(size, size)


NOTHING: Final = Range(0, 0)
ONE: Final = Range(1, 1)
UNKNOWN: Final = Range(0, SIZE_MAX)


def _bounded(value: int) -> int:
    return min(value, SIZE_MAX)


def _scaled(value: int, factor: float) -> int:
    product = float(value) * factor
    return SIZE_MAX if product >= 2.0**64 else math.ceil(product)

"""Filters of Triggers and policies: the dialects of Knative's `filters` as predicates.

`predicate` is compiled once for a subscription and then asked for each event. Pure.
"""

from ondol.eventing.filters.compiling import Predicate, predicate
from ondol.eventing.filters.types import exact_type
from ondol.eventing.filters.validation import attribute_problems, problems

__all__ = ("Predicate", "attribute_problems", "exact_type", "predicate", "problems")

"""Which pods a PodDisruptionBudget is about: one meaning for evictions and for who counts the pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api import labels, objects
from ondol.base import errors


def covers(budget: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the budget selects the pod, of its own namespace; one without a selector selects none."""
    document = objects.spec(budget).get("selector")
    if document is None:
        return False
    try:
        return labels.from_document(document).matches(objects.labels(pod))
    except errors.BadRequest:
        return False

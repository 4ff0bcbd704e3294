"""Pods that a Service will have once somebody calls it, as the Service itself describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.contracts import mesh

_DAY_S: Final = 86_400
_MANY: Final = 1_000_000


@dataclass(frozen=True)
class Coming:
    """What is known of them before they are there."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    port: int
    """At which they are called."""
    hold_s: int
    """For how long a connection may wait for one of them."""
    per_connection: int
    """How many requests each connection is to carry; 0 is no limit."""

    def in_mesh(self, namespace: Mapping[str, Any] | None) -> bool:
        metadata = {"labels": dict(self.labels), "annotations": dict(self.annotations)}
        return mesh.in_mesh({"metadata": metadata}, namespace)


def read(service: Mapping[str, Any]) -> Coming | None:
    """What the annotation of a Service says; None without one, or of what nobody can read."""
    text = objects.annotations(service).get(mesh.PODS_TO_COME)
    if not text:
        return None
    try:
        document = json.loads(text)
        listed = [document.get(key) or {} for key in ("labels", "annotations")]
        labels, annotations = ({str(key): str(value) for key, value in each.items()} for each in listed)
        numbers = [max(0, int(document.get(key) or 0)) for key in ("port", "holdSeconds", "perConnection")]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    port, hold_s, per_connection = numbers
    return Coming(labels, annotations, port, min(hold_s, _DAY_S), min(per_connection, _MANY))

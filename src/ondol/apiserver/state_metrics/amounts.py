"""Amounts of resources, each with its unit, as kube-state-metrics tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.apiserver.state_metrics.families import Sample, amount

_INVALID: Final = re.compile(r"[^a-zA-Z0-9_]")
_UNITS: Final = {"cpu": "core", "memory": "byte", "storage": "byte", "ephemeral-storage": "byte"}
_BYTE_PREFIXES: Final = ("hugepages-", "attachable-volumes-")


def label_name(text: str) -> str:
    """A text as (part of) the name of a label."""
    return _INVALID.sub("_", text)


def samples(
    amounts: Mapping[str, Any] | None, *labels: tuple[str, str], of_node: bool = False
) -> Iterable[Sample]:
    """One for each resource whose unit is known; pods are counted for nodes alone."""
    for resource, quantity in (amounts or {}).items():
        if unit := _unit(resource, of_node=of_node):
            yield (*labels, ("resource", label_name(resource)), ("unit", unit)), amount(quantity)


def _unit(resource: str, *, of_node: bool) -> str:
    if unit := _UNITS.get(resource):
        return unit
    if resource.startswith(_BYTE_PREFIXES):
        return "byte"
    if resource == "pods":
        return "integer" if of_node else ""
    is_extended = (
        "/" in resource and "kubernetes.io/" not in resource and not resource.startswith("requests.")
    )
    return "integer" if is_extended else ""

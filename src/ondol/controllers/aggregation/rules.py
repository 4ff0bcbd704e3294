"""The rules an aggregated cluster role should show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ondol.api import labels, objects
from ondol.api.objects import Object


def aggregated_rules(role: Object, cluster_roles: Iterable[Object]) -> list[Mapping[str, Any]]:
    """The rules of the selected roles by their names, each rule once."""
    selectors = [
        labels.from_document(selector)
        for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
    ]
    collected: list[Mapping[str, Any]] = []
    for other in sorted(cluster_roles, key=objects.name):
        if objects.name(other) == objects.name(role):
            continue
        if any(selector.matches(objects.labels(other)) for selector in selectors):
            collected.extend(rule for rule in other.get("rules") or () if rule not in collected)
    return collected

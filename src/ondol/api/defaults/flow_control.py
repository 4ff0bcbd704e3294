"""Defaults of FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

from typing import Any


def schema(document: Any) -> None:
    spec = document["spec"]
    spec["matchingPrecedence"] = spec.get("matchingPrecedence") or 1000


def level(document: Any) -> None:
    spec = document["spec"]
    for kind, shares in (("exempt", 0), ("limited", 30)):
        limits = spec.get(kind)
        if limits is not None:
            limits.setdefault("nominalConcurrencyShares", shares)
            limits.setdefault("lendablePercent", 0)
    queuing = ((spec.get("limited") or {}).get("limitResponse") or {}).get("queuing")
    if queuing is not None:
        for field, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
            queuing[field] = queuing.get(field) or value

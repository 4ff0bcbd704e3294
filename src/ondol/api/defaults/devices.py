"""Defaults of claims to devices."""

from __future__ import annotations

from typing import Any


def claim(document: Any) -> None:
    _claim_spec(document["spec"])


def claim_template(document: Any) -> None:
    _claim_spec(document["spec"].get("spec") or {})


def _claim_spec(spec: Any) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        if request.get("exactly") is not None:
            _count(request["exactly"])
        for choice in request.get("firstAvailable") or ():
            _count(choice)


def _count(request: Any) -> None:
    """One device, if nothing else is said."""
    mode = request["allocationMode"] = request.get("allocationMode") or "ExactCount"
    if mode == "ExactCount":
        request["count"] = request.get("count") or 1

"""The columns of CertificateSigningRequests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import objects
from ondol.api.tables import age, columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string


def _request(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    seconds = spec.get("expirationSeconds")
    return (
        objects.name(obj),
        columns.age_of(obj, now),
        spec.get("signerName") or "<none>",
        spec.get("username") or "",
        "<none>" if seconds is None else age.human(seconds),
        _state(obj),
    )


def _state(obj: Document) -> str:
    status = objects.status(obj)
    types = {condition.get("type") for condition in status.get("conditions") or ()}
    decided = next((kind for kind in ("Denied", "Approved") if kind in types), "Pending")
    failed = ",Failed" if "Failed" in types else ""
    return decided + failed + (",Issued" if status.get("certificate") else "")


REQUEST: Final = Layout(
    (
        NAME,
        AGE,
        string("SignerName"),
        string("Requestor"),  # codespell:ignore requestor - as Kubernetes writes it
        string("RequestedDuration"),
        string("Condition"),
    ),
    _request,
)

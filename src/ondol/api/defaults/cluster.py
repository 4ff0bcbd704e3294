"""Defaults of the kinds that run nothing: namespaces, nodes, secrets, RBAC, tokens and CRDs."""

from __future__ import annotations

import base64
from typing import Any, Final

from ondol.api import priority_classes

_RBAC: Final = "rbac.authorization.k8s.io"
_TOKEN_LIFE_S: Final = 3600


def namespace(document: Any) -> None:
    document["status"].setdefault("phase", "Active")
    name = document["metadata"].get("name")
    if name:
        document["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


def node(document: Any) -> None:
    status = document["status"]
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def secret(document: Any) -> None:
    """The type, and `stringData` folded into `data`: it is for writing only."""
    document.setdefault("type", "Opaque")
    plain = document.pop("stringData", None)
    if plain:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
        document["data"] = {**(document.get("data") or {}), **encoded}


def priority_class(document: Any) -> None:
    document.setdefault("preemptionPolicy", priority_classes.PREEMPTION_POLICY)


def role_binding(document: Any) -> None:
    if not document["roleRef"].get("apiGroup"):
        document["roleRef"]["apiGroup"] = _RBAC
    for subject in document.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", _RBAC)


def token_request(document: Any) -> None:
    document["spec"].setdefault("expirationSeconds", _TOKEN_LIFE_S)


def crd(document: Any) -> None:
    spec = document["spec"]
    names = spec["names"]
    kind = names.get("kind", "")
    if kind:
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", kind + "List")
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)
    if not document["status"].get("storedVersions"):
        stored = [v["name"] for v in spec.get("versions") or () if v.get("storage")]
        document["status"]["storedVersions"] = stored[:1]

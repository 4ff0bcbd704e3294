"""Claims and ingresses that name no class get the default one, if there is one, when they are created."""

from __future__ import annotations

from ondol.api import default_classes, objects, resources
from ondol.api.validation.claims import CLASS_ANNOTATION
from ondol.api.validation.ingresses import CLASS_ANNOTATION as INGRESS_ANNOTATION
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context


def admit_claim(parts: Parts, context: Context, request: Request) -> None:
    """Name the storage class of a new claim; the empty name asks for none."""
    del context
    spec = request.new.get("spec") or {}
    named = spec.get("storageClassName") is not None or CLASS_ANNOTATION in objects.annotations(request.new)
    if request.operation != "create" or named:
        return
    classes = parts.state.list_objects(resources.STORAGE_CLASS)
    if name := default_classes.newest(classes, default_classes.STORAGE):
        spec["storageClassName"] = name


def admit_ingress(parts: Parts, context: Context, request: Request) -> None:
    """Name the class of a new ingress."""
    del context
    if request.operation != "create" or INGRESS_ANNOTATION in objects.annotations(request.new):
        return
    spec = request.new.get("spec") or {}
    classes = parts.state.list_objects(resources.INGRESS_CLASS)
    if spec.get("ingressClassName") is None and (
        name := default_classes.newest(classes, default_classes.INGRESS)
    ):
        spec["ingressClassName"] = name

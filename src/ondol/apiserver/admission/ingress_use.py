"""What the author of an Ingress is warned of: a class that is not there, annotations that nothing acts on."""

from __future__ import annotations

from collections.abc import Iterator

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.api.validation.ingresses import CLASS_ANNOTATION
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.contracts import ingress


def warn(parts: Parts, context: Context, request: Request) -> None:
    """Say what of a written Ingress would be without effect, when it begins to be."""
    if request.subresource or request.operation not in {"create", "update"}:
        return
    field, name = _class_of(request.new)
    if not name:
        return
    before = request.old or {}
    is_new = _class_of(before)[1] != name
    named = parts.state.lookup(resources.INGRESS_CLASS, "", name)
    if named is None:
        if is_new:
            context.warn(f'{field}: there is no IngressClass "{name}": nothing here serves this Ingress')
    elif objects.spec(named).get("controller") == ingress.CONTROLLER:
        for annotation in _not_acted_on(request.new, {} if is_new else before):
            context.warn(f"metadata.annotations[{annotation}]: nothing acts on it for class {name}")


def _class_of(obj: Object) -> tuple[str, str]:
    """Where an Ingress names its class, and the name; empty where it names none."""
    if (name := objects.annotations(obj).get(CLASS_ANNOTATION)) is not None:
        return f"metadata.annotations[{CLASS_ANNOTATION}]", name
    return "spec.ingressClassName", objects.spec(obj).get("ingressClassName") or ""


def _not_acted_on(new: Object, old: Object) -> Iterator[str]:
    """Annotations for ingress-nginx that are new or changed, and without effect here."""
    before = objects.annotations(old)
    for name, value in objects.annotations(new).items():
        if name.startswith(ingress.NGINX) and name not in ingress.ACTED_ON and before.get(name) != value:
            yield name

"""namespaces/finalize: takes finalizers of the spec away; with the last one the namespace goes."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.apiserver import answers
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.lenses import metadata_through
from ondol.apiserver.served import Served
from ondol.apiserver.strategy import Context, Strategy


class Finalizers:
    """The lens of the finalizers in a namespace's spec; metadata is taken with them."""

    subresource = "finalize"

    def __init__(self) -> None:
        self.reset: FieldSet = {"f:status": {}}

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        spec = {**objects.spec(obj), "finalizers": list(objects.spec(part).get("finalizers") or ())}
        return {**obj, "metadata": metadata_through(self, obj, part), "spec": spec}

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        """Nothing to undo: `put` took nothing else."""


async def update(core: Core, request: Request, served: Served) -> Answer:
    document = await changing.read_typed(core, request, served.resource, served.schema)
    writes = changing.writes(core, request, served)
    written = await writes.update("", request.info.name, Finalizers(), lambda _: document)
    return answers.one(core, request, served, written.value)

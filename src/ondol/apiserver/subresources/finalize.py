"""namespaces/finalize: takes finalizers of the spec away; with the last one the namespace goes."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.apiserver import answers
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.apiserver.strategy import Context, Strategy


class Finalizers:
    """The lens of the finalizers in a namespace's spec."""

    subresource = "finalize"

    def __init__(self) -> None:
        self.reset: FieldSet = {}

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        finalizers = list(objects.spec(part).get("finalizers") or ())
        sent = objects.metadata(part)
        conditions = {field: sent[field] for field in ("resourceVersion", "uid") if sent.get(field)}
        spec = {**objects.spec(obj), "finalizers": finalizers}
        return {**obj, "metadata": {**obj["metadata"], **conditions}, "spec": spec}

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        """Nothing to undo: `put` took only the finalizers."""


async def update(core: Core, request: Request, served: Served) -> Answer:
    document = await changing.read_typed(core, request, served.resource, served.schema)
    writes = changing.writes(core, request, served)
    written = await writes.update("", request.info.name, Finalizers(), lambda _: document)
    return answers.one(core, request, served, written.value)

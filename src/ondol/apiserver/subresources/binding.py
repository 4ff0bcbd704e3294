"""pods/binding: assigns a pod to the node that the scheduler chose."""

from __future__ import annotations

from typing import Any, Final

from ondol.api import conditions, objects, resources, status
from ondol.api.objects import Object, Resource
from ondol.api.patch.fieldset import FieldSet
from ondol.apiserver import answers, schemas
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.apiserver.strategy import Context, Strategy
from ondol.base import errors

SUCCESS: Final[Object] = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Success",
    "code": 201,
}


_BINDING: Final = Resource("", "v1", "bindings", "Binding")


class Assign:
    """The lens of a binding: it sets the node, once."""

    subresource = "binding"

    def __init__(self, binding: Object, now: float) -> None:
        self._binding = binding
        self._now = now
        self.reset: FieldSet = {}

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        """The pod as assigned; `Conflict` if it has a node already or is being deleted."""
        del part
        name, target = objects.name(obj), self._binding["target"]["name"]
        if objects.is_deleting(obj):
            raise status.conflict(
                resources.POD, name, f"pod {name} is being deleted, cannot be assigned to a host"
            )
        if current := objects.spec(obj).get("nodeName"):
            raise status.conflict(resources.POD, name, f'pod {name} is already assigned to node "{current}"')
        own = objects.metadata(self._binding)
        metadata: dict[str, Any] = {**obj["metadata"]}
        if own.get("uid"):
            metadata["uid"] = own["uid"]
        if own.get("resourceVersion"):
            metadata["resourceVersion"] = own["resourceVersion"]
        for field in ("annotations", "labels"):
            if own.get(field):
                metadata[field] = {**(metadata.get(field) or {}), **own[field]}
        listed = conditions.set(conditions.of(obj), "PodScheduled", "True", now=self._now)
        return {
            **obj,
            "metadata": metadata,
            "spec": {**obj["spec"], "nodeName": target},
            "status": {**objects.status(obj), "conditions": listed},
        }

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        """Nothing to undo: `put` took only what a binding may set."""


async def create(core: Core, request: Request, served: Served) -> Reply:
    return await _bind(core, request, served, request.info.name)


async def create_legacy(core: Core, request: Request, served: Served) -> Reply:
    """POST to `bindings`: the pod's name stands in the body only."""
    del served
    return await _bind(core, request, core.catalogue.of(resources.POD), "")


async def _bind(core: Core, request: Request, served: Served, name: str) -> Reply:
    binding = await changing.read_typed(core, request, _BINDING, schemas.BINDING)
    target = binding.get("target") or {}
    if target.get("kind") not in (None, "", "Node") or not target.get("name"):
        raise errors.BadRequest("target: must name a Node")
    lens = Assign(binding, core.clock.now())
    writes = changing.writes(core, request, served)
    await writes.update(request.info.namespace, name or objects.name(binding), lens, lambda pod: {**pod})
    return answers.document(request, SUCCESS, 201)

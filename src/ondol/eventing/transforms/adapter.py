"""Says in the process `events` that a transform is served: that its expressions are expressions."""

from __future__ import annotations

from typing import Final

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing.sources.adapters import FIELD_MANAGER
from ondol.eventing.transforms import transforming
from ondol.eventing.transforms.evaluator import Evaluator, Exceeded, Failed
from ondol.eventing.verdicts import OK, Verdict
from ondol.sdk import Controller, Manager, status

_FAILED: Final = "JsonataExpressionInvalid"


class TransformServer:
    """Writes the condition that is the data plane's."""

    def __init__(self, manager: Manager, evaluator: Evaluator) -> None:
        self._clock = manager.clock
        self._evaluator = evaluator
        self._transforms = manager.informer(eventing.EVENT_TRANSFORM)
        self._writer = status.Writer(
            manager.client,
            eventing.EVENT_TRANSFORM,
            field_manager=FIELD_MANAGER,
            conditions=(eventing.JSONATA_DEPLOYMENT_READY,),
        )

    def controller(self) -> Controller:
        controller = Controller("events-eventtransforms", self.reconcile)
        controller.watch(self._transforms)
        return controller

    async def reconcile(self, key: Key) -> None:
        transform = self._transforms.lister.get(key)
        if transform is None or objects.is_deleting(transform):
            return
        verdict = await self._verdict(transform)
        listed = conditions.set(
            conditions.of(transform),
            eventing.JSONATA_DEPLOYMENT_READY,
            verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            now=self._clock.now(),
        )
        await self._writer.write(transform, {"conditions": listed})

    async def _verdict(self, transform: Object) -> Verdict:
        spec = objects.spec(transform)
        for path, part in (("spec", spec), ("spec.reply", spec.get("reply") or {})):
            try:
                await self._evaluator.check(transforming.expression(part), owner=objects.namespace(transform))
            except (Failed, Exceeded) as error:
                return Verdict("False", _FAILED, f"{path}.jsonata.expression: {error}")
        return OK

"""Reconciles HorizontalPodAutoscalers: measure every fifteen seconds, and size what they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import conditions, labels, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, timestamps
from ondol.client import PatchType
from ondol.controllers.autoscaling import behavior, measuring
from ondol.controllers.autoscaling.behavior import Decision, History, Verdict
from ondol.controllers.autoscaling.measuring import Measurement, Measuring, Target
from ondol.controllers.autoscaling.metrics_apis import MetricsApis
from ondol.controllers.autoscaling.sizing import CannotMeasure
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.controller import generation_changed
from ondol.sdk.status import Writer

COMPONENT: Final = "horizontal-pod-autoscaler"
PERIOD_S: Final = 15.0
ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
_TO_NONE: Final = Verdict(
    False, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero"
)


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


@dataclass(slots=True)
class _Report:
    """What a pass says of an autoscaler; conditions that it does not name stay as they are."""

    current: int | None = None
    desired: int | None = None
    metrics: list[Object] | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    has_scaled: bool = False


class Reconciler:
    """One key at a time is measured and sized; what was recommended lately is kept in memory."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._recorder = manager.recorder
        self._autoscalers = manager.informer(resources.HORIZONTAL_POD_AUTOSCALER)
        self._pods = manager.informer(resources.POD)
        self._measuring = Measuring(MetricsApis(manager.client))
        self._histories: dict[Key, History] = {}
        self._selectors: dict[Key, labels.Selector] = {}
        self._status = Writer(
            manager.client,
            resources.HORIZONTAL_POD_AUTOSCALER,
            field_manager=COMPONENT,
            conditions=(ABLE, ACTIVE, LIMITED),
        )

    def controller(self) -> Controller:
        controller = Controller("horizontalpodautoscaler", self.reconcile, concurrency=4)
        controller.watch(self._autoscalers, predicate=generation_changed)
        controller.watch(self._pods, lambda _: ())
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        autoscaler = self._autoscalers.lister.get(key)
        if autoscaler is None or objects.is_deleting(autoscaler):
            self._histories.pop(key, None)
            self._selectors.pop(key, None)
            return None
        report = _Report()
        try:
            await self._size(key, autoscaler, report)
        finally:
            await self._write(autoscaler, report)
        return Result(PERIOD_S)

    async def _size(self, key: Key, autoscaler: Object, report: _Report) -> None:
        reference = objects.spec(autoscaler)["scaleTargetRef"]
        try:
            resource = await self._client.resource_for(
                str(reference.get("apiVersion") or "v1"), str(reference["kind"])
            )
            scale = await self._client.get(
                resource, str(reference["name"]), key.namespace, subresource="scale"
            )
        except errors.ApiError as error:
            self._tell(autoscaler, "FailedGetScale", error.message)
            text = f"the HPA controller was unable to get the target's current scale: {error.message}"
            report.verdicts[ABLE] = Verdict(False, "FailedGetScale", text)
            return
        report.verdicts[ABLE] = Verdict(
            True, "SucceededGetScale", "the HPA controller was able to get the target's current scale"
        )
        current = report.current = int(objects.spec(scale).get("replicas") or 0)
        history = self._histories.setdefault(key, History())
        history.begin(current, self._clock.monotonic())
        sized = await self._sized(key, autoscaler, scale, report)
        if sized is None or sized[0] == current:
            report.desired = current if sized is not None else None
            return
        await self._scale(autoscaler, resource, sized, report)

    async def _sized(
        self, key: Key, autoscaler: Object, scale: Object, report: _Report
    ) -> tuple[int, str] | None:
        """The size to have and the reason, in the words of an event; None where none can be told."""
        spec, current = objects.spec(autoscaler), int(objects.spec(scale).get("replicas") or 0)
        minimum, maximum = behavior.bounds(spec)
        if current == 0 and minimum != 0:
            report.verdicts[ACTIVE] = _TO_NONE
            return 0, ""
        if current > maximum:
            return maximum, "Current number of replicas above Spec.MaxReplicas"
        if current < minimum:
            return minimum, "Current number of replicas below Spec.MinReplicas"
        target = self._target(key, autoscaler, scale, report)
        if target is None:
            return None
        measured = await self._measured(autoscaler, target, report)
        if measured is None:
            return None
        history, now = self._histories[key], self._clock.monotonic()
        decision = behavior.decide(spec, current, measured.replicas, history, now)
        report.verdicts |= {ABLE: decision.able, LIMITED: decision.limited}
        return decision.replicas, _reason(decision, current, measured)

    def _target(self, key: Key, autoscaler: Object, scale: Object, report: _Report) -> Target | None:
        """What is scaled; None if its pods cannot be told, or are another autoscaler's as well."""
        text = str(objects.status(scale).get("selector") or "")
        if not text:
            self._tell(autoscaler, "SelectorRequired", "selector is required")
            why = "the HPA target's scale is missing a selector"
            report.verdicts[ACTIVE] = Verdict(False, "InvalidSelector", why)
            return None
        try:
            selector = labels.parse(text)
        except errors.BadRequest as error:
            why = f"couldn't convert selector into a corresponding internal selector object: {error.message}"
            self._tell(autoscaler, "InvalidSelector", why)
            report.verdicts[ACTIVE] = Verdict(False, "InvalidSelector", why)
            return None
        self._selectors[key] = selector
        near = self._pods.lister.list(key.namespace)
        selected = [pod for pod in near if selector.matches(objects.labels(pod))]
        rivals = self._rivals(key, selected)
        if len(rivals) > 1:
            listed = " ".join(str(rival) for rival in rivals)
            why = f"pods by selector {text} are controlled by multiple HPAs: [{listed}]"
            self._tell(autoscaler, "AmbiguousSelector", why)
            report.verdicts[ACTIVE] = Verdict(False, "AmbiguousSelector", why)
            return None
        replicas = int(objects.spec(scale).get("replicas") or 0)
        running = int(objects.status(scale).get("replicas") or 0)
        return Target(key.namespace, replicas, running, selector, selected)

    def _rivals(self, key: Key, selected: Sequence[Object]) -> list[Key]:
        """The autoscalers that select any of the pods."""
        return sorted(
            other
            for other, selector in self._selectors.items()
            if other.namespace == key.namespace
            and any(selector.matches(objects.labels(pod)) for pod in selected)
        )

    async def _measured(self, autoscaler: Object, target: Target, report: _Report) -> Measurement | None:
        """The metric that calls for the most replicas; None if too few can be measured to act on.

        With some missing a size only goes up: what is missing may be what holds it where it is.
        """
        metrics = objects.spec(autoscaler).get("metrics") or ()
        measurements: list[Measurement] = []
        failures: list[tuple[Mapping[str, Any], CannotMeasure]] = []
        for metric in metrics:
            try:
                measurements.append(await self._measuring.measure(metric, target, self._clock.now()))
            except CannotMeasure as error:
                failures.append((metric, error))
                self._tell(autoscaler, measuring.failure_reason(metric), str(error))
        report.metrics = [each.status for each in measurements]
        highest = max(measurements, key=lambda each: each.replicas, default=None)
        if highest is None or (failures and highest.replicas < target.replicas):
            metric, cause = failures[0]
            first = measuring.failure_message(metric, cause)
            text = f"invalid metrics ({len(failures)} invalid out of {len(metrics)}), first error is: {first}"
            self._tell(autoscaler, "FailedComputeMetricsReplicas", text)
            why = f"the HPA was unable to compute the replica count: {cause}"
            report.verdicts[ACTIVE] = Verdict(False, measuring.failure_reason(metric), why)
            return None
        why = f"the HPA was able to successfully calculate a replica count from {highest.name}"
        report.verdicts[ACTIVE] = Verdict(True, "ValidMetricFound", why)
        return highest

    async def _scale(
        self, autoscaler: Object, resource: Resource, sized: tuple[int, str], report: _Report
    ) -> None:
        replicas, reason = sized
        spec, key = objects.spec(autoscaler), objects.key(autoscaler)
        try:
            await self._client.patch(
                resource,
                str(spec["scaleTargetRef"]["name"]),
                key.namespace,
                patch={"spec": {"replicas": replicas}},
                patch_type=PatchType.MERGE,
                subresource="scale",
                field_manager=COMPONENT,
            )
        except errors.ApiError as error:
            text = f"New size: {replicas}; reason: {reason}; error: {error.message}"
            self._tell(autoscaler, "FailedRescale", text)
            why = f"the HPA controller was unable to update the target scale: {error.message}"
            report.verdicts[ABLE] = Verdict(False, "FailedUpdateScale", why)
            return
        report.verdicts[ABLE] = Verdict(
            True, "SucceededRescale", f"the HPA controller was able to update the target scale to {replicas}"
        )
        report.desired, report.has_scaled = replicas, True
        text = f"New size: {replicas}; reason: {reason}"
        self._recorder.event(autoscaler, "Normal", "SuccessfulRescale", text, component=COMPONENT)
        if (rules := spec.get("behavior")) is not None:
            self._histories[key].scaled(
                report.current or 0, replicas, self._clock.monotonic(), behavior.remembered_s(rules)
            )

    async def _write(self, autoscaler: Object, report: _Report) -> None:
        now, status = self._clock.now(), objects.status(autoscaler)
        listed: Sequence[Mapping[str, Any]] = conditions.of(autoscaler)
        for kind, verdict in report.verdicts.items():
            listed = conditions.set(
                listed,
                kind,
                "True" if verdict.is_true else "False",
                reason=verdict.reason,
                message=verdict.message,
                now=now,
            )
        desired = status.get("desiredReplicas") or 0 if report.desired is None else report.desired
        current = status.get("currentReplicas") or 0 if report.current is None else report.current
        await self._status.write(
            autoscaler,
            {
                "observedGeneration": objects.generation(autoscaler),
                "currentReplicas": current,
                "desiredReplicas": desired,
                "currentMetrics": report.metrics or None,
                "lastScaleTime": timestamps.rfc3339(now)
                if report.has_scaled
                else status.get("lastScaleTime"),
                "conditions": listed,
            },
        )

    def _tell(self, autoscaler: Object, reason: str, message: str) -> None:
        self._recorder.event(autoscaler, "Warning", reason, message, component=COMPONENT)


def _reason(decision: Decision, current: int, measured: Measurement) -> str:
    """Why the size changes, in the words of an event."""
    if measured.replicas > current:
        return f"{measured.name} above target"
    return "All metrics below target" if decision.replicas < current else ""

"""What MutatingAdmissionPolicies make of an object.

Follows Kubernetes' `policy/mutating/{dispatcher,patch/smd,patch/json_patch}.go`. A configuration
is merged like one that is applied, but nobody owns what it sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ondol.api import objects, status
from ondol.api.cel.policies import expressions
from ondol.api.cel.policies.expressions import Budget, Failed
from ondol.api.cel.policies.programs import MutatingPrograms, Mutation
from ondol.api.objects import Object
from ondol.api.patch import apply, json_patch, typed
from ondol.api.patch.shape import TypeSchema
from ondol.apiserver.admission.request import Request
from ondol.apiserver.policies.definitions import Policy
from ondol.apiserver.policies.evaluation import Invocation, World
from ondol.apiserver.policies.pace import Pace
from ondol.apiserver.strategy import Context
from ondol.apiserver.webhooks import attributes as views
from ondol.apiserver.webhooks.attributes import Attributes
from ondol.base import errors

_FAILURE: Final = "error applying patch"


class NotMutable(errors.Forbidden):
    """A mutation that failed: Kubernetes gives these two, which elsewhere do not go together."""

    reason = "Invalid"


async def mutate(
    world: World, policies: tuple[Policy[MutatingPrograms], ...], context: Context, request: Request
) -> None:
    """Change `request.new`; raise all failures together that a policy does not pass over."""
    failures: list[str] = []
    for invocation in [each async for each in world.invocations(policies, context, request)]:
        policy = invocation.policy
        own = [invocation.failure] if invocation.failure else []
        if not own:
            if request.is_again and not (
                policy.is_called_again and views.sees_changes(invocation.uid, request)
            ):
                continue
            own = await _Mutations(world, invocation, context, request).run()
            request.called[invocation.uid] = request.new
        if not policy.is_ignored_on_failure:
            title = invocation.title if invocation.binding else f'"{policy.name}"'
            failures += [f"policy {title} denied request: {failure}" for failure in own]
    if failures:
        name = objects.name(request.new) or "Unknown"
        details = status.forbidden(request.served.resource, name, "").details
        raise NotMutable(failures[0], causes=[errors.Cause("", each) for each in failures], details=details)


class _Mutations:
    """Those of one policy for one write, each with what the one before has changed."""

    def __init__(
        self, world: World, invocation: Invocation[MutatingPrograms], context: Context, request: Request
    ) -> None:
        self._world = world
        self._invocation = invocation
        self._programs = invocation.policy.programs
        self._context = context
        self._request = request

    async def run(self) -> list[str]:
        """Apply one after the other; why those that fail do."""
        failures: list[str] = []
        pace = Pace()
        try:
            if not expressions.all_hold(
                self._programs.conditions, self._activation(await self._attributes())
            ):
                return []
        except Failed as failure:
            return [str(failure)]
        for mutation in self._programs.mutations:
            budget = Budget()
            before = budget.left
            try:
                await self._apply(mutation, budget)
            except Failed as failure:
                failures.append(str(failure))
            await pace.rest(budget, before)
        return failures

    async def _attributes(self) -> Attributes:
        """The write with what was changed so far."""
        attributes = views.of(self._context, self._request)
        return await views.in_version(attributes, self._invocation.attributes.served)

    def _activation(self, attributes: Attributes) -> dict[str, Any]:
        return self._world.activation(attributes, self._invocation.param)

    async def _apply(self, mutation: Mutation, budget: Budget) -> None:
        attributes = await self._attributes()
        if attributes.obj is None:
            return
        if mutation.expression.problem:
            raise Failed(mutation.expression.problem)
        activation = self._programs.composition.bound(self._activation(attributes), budget)
        value = expressions.to_json(mutation.expression.evaluate(activation, budget))
        if mutation.patch_type == "JSONPatch":
            patched = _patched(attributes.obj, value)
        else:
            patched = _merged(attributes.obj, value, attributes.served.schema.shape)
        if json_patch.same(patched, attributes.obj):
            return
        try:
            changed = await views.as_requested(self._request, attributes, patched)
        except errors.ApiError as error:
            raise Failed(error.message) from None
        if changed != self._request.new:
            self._request.new = changed


def _patched(obj: Object, operations: list[Object]) -> Object:
    try:
        patched = json_patch.apply(obj, operations)
    except json_patch.DoesNotHold:
        return obj
    except errors.ApiError as error:
        reason = error.causes[0].message if error.causes else error.message
        raise Failed(f"JSON Patch: {reason}") from None
    if not isinstance(patched, dict):
        raise Failed("JSON Patch: the patch leaves no object")
    return patched


def _merged(obj: Object, configuration: Object, shape: TypeSchema) -> Object:
    configuration = {
        **configuration,
        **{field: obj[field] for field in ("apiVersion", "kind") if field in obj},
    }
    if reason := apply.misfit(configuration, shape):
        raise Failed(f"{_FAILURE}: failed to convert patch object to typed object: {reason}")
    atomic = list(_atomic(shape, configuration, ""))
    if atomic:
        whole = "may not mutate atomic arrays, maps or structs"
        raise Failed(f"{_FAILURE}: invalid ApplyConfiguration: {whole}: {', '.join(atomic)}")
    return dict(typed.merge(shape, obj, configuration))


def _atomic(shape: TypeSchema, value: Any, path: str) -> Iterator[str]:
    """Where a configuration would replace a whole, of which it may name but a part."""
    if isinstance(value, dict) and shape.form == "map":
        if shape.atomic:
            yield path
        for name, item in value.items():
            child = shape.fields.get(name)
            if child is not None:
                yield from _atomic(child, item, f"{path}.{name}")
    elif isinstance(value, list) and shape.form == "list":
        if shape.atomic:
            yield path
        for index, item in enumerate(value):
            if shape.element is not None:
                yield from _atomic(shape.element, item, f"{path}[{index}]")

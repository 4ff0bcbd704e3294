"""What a MutatingAdmissionPolicy makes of an object.

Follows Kubernetes' `policy/mutating/patch/{smd,json_patch}.go`. A configuration is merged like one that is
applied, but nobody owns what it sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.cel.policies import expressions
from ondol.api.cel.policies.expressions import Budget, Failed
from ondol.api.cel.policies.programs import MutatingPrograms, Mutation
from ondol.api.objects import Object
from ondol.api.patch import apply, json_patch, typed
from ondol.api.patch.shape import TypeSchema
from ondol.base import errors

_FAILURE: Final = "error applying patch"


def is_meant(programs: MutatingPrograms, activation: Mapping[str, Any]) -> bool:
    """Whether the policy's conditions hold; `Failed` if that cannot be known."""
    return expressions.all_hold(programs.conditions, activation)


def changed(
    programs: MutatingPrograms,
    mutation: Mutation,
    activation: Mapping[str, Any],
    shape: TypeSchema,
    budget: Budget,
) -> Object:
    """The object as one mutation leaves it; `Failed` with the reason if it cannot be made."""
    if mutation.expression.problem:
        raise Failed(mutation.expression.problem)
    bound = programs.composition.bound(activation, budget)
    value = expressions.to_json(mutation.expression.evaluate(bound, budget))
    obj: Object = activation["object"]
    if mutation.patch_type == "JSONPatch":
        return _patched(obj, value)
    return _merged(obj, value, shape)


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

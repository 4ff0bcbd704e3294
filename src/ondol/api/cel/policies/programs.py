"""The expressions of one policy, in the environments that Kubernetes gives them.

A variable sees those above it. Messages are made without the authorizer; match conditions without variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ondol.api.cel.environment import Environment, match_condition, policy
from ondol.api.cel.policies import expressions
from ondol.api.cel.policies.expressions import Budget, Expression, Variables
from ondol.api.cel.types import Type

Spec = Mapping[str, Any]
Located = tuple[str, Expression]
"""An expression with its path in the policy."""


class Composition:
    """The variables of a policy, and the environments of what may use them."""

    def __init__(self, spec: Spec) -> None:
        self._params = spec.get("paramKind") is not None
        self._types: dict[str, Type] = {}
        self.variables: dict[str, Expression] = {}
        self.located: list[Located] = []
        for index, document in enumerate(spec.get("variables") or ()):
            name = str(document.get("name") or "")
            expression = Expression(str(document.get("expression") or ""), self.environment())
            program = expression.program
            self._types[name] = expressions.composed(program.result if program is not None else None)
            self.variables[name] = expression
            self.located.append((f"spec.variables[{index}].expression", expression))

    def environment(self, *, authorizer: bool = True, patches: bool = False) -> Environment:
        return policy(
            params=self._params, variables=dict(self._types), authorizer=authorizer, patches=patches
        )

    def conditions(self, spec: Spec) -> list[Located]:
        environment = match_condition(params=self._params)
        return [
            (
                f"spec.matchConditions[{index}].expression",
                Expression(str(document.get("expression") or ""), environment, expressions.BOOL),
            )
            for index, document in enumerate(spec.get("matchConditions") or ())
        ]

    def bound(self, activation: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
        """The activation with the variables, which are evaluated by it when they are used."""
        whole = dict(activation)
        whole["variables"] = Variables(self.variables, whole, budget)
        return whole


class Validation(NamedTuple):
    """One validation; `document` is what it says besides its expressions."""

    expression: Expression
    message: Expression | None
    document: Mapping[str, Any]


class Annotation(NamedTuple):
    key: str
    expression: Expression


class ValidatingPrograms:
    """What a ValidatingAdmissionPolicy evaluates."""

    def __init__(self, spec: Spec) -> None:
        self.composition = Composition(spec)
        self._conditions = self.composition.conditions(spec)
        self.conditions = [expression for _, expression in self._conditions]
        environment = self.composition.environment()
        silent = self.composition.environment(authorizer=False)
        self.validations = [
            Validation(
                Expression(str(each.get("expression") or ""), environment, expressions.BOOL),
                Expression(each["messageExpression"], silent, expressions.STRING)
                if each.get("messageExpression")
                else None,
                each,
            )
            for each in spec.get("validations") or ()
        ]
        self.annotations = [
            Annotation(
                str(each.get("key") or ""),
                Expression(
                    str(each.get("valueExpression") or "").strip(), environment, expressions.STRING_OR_NULL
                ),
            )
            for each in spec.get("auditAnnotations") or ()
        ]

    def located(self) -> Iterator[Located]:
        """All expressions, each with its path, as they stand in the policy."""
        yield from self._conditions
        yield from self.composition.located
        for index, validation in enumerate(self.validations):
            path = f"spec.validations[{index}]"
            yield f"{path}.expression", validation.expression
            if validation.message is not None:
                yield f"{path}.messageExpression", validation.message
        for index, annotation in enumerate(self.annotations):
            yield f"spec.auditAnnotations[{index}].valueExpression", annotation.expression


class Mutation(NamedTuple):
    """One mutation, by its `patchType`."""

    patch_type: str
    expression: Expression


class MutatingPrograms:
    """What a MutatingAdmissionPolicy evaluates."""

    def __init__(self, spec: Spec) -> None:
        self.composition = Composition(spec)
        self._conditions = self.composition.conditions(spec)
        self.conditions = [expression for _, expression in self._conditions]
        environment = self.composition.environment(patches=True)
        self.mutations: list[Mutation] = []
        self._located: list[Located] = []
        for index, document in enumerate(spec.get("mutations") or ()):
            patch_type = str(document.get("patchType") or "")
            if patch_type not in _PATCHES:
                continue
            field, results = _PATCHES[patch_type]
            source = str((document.get(field) or {}).get("expression") or "").strip()
            expression = Expression(source, environment, results)
            self.mutations.append(Mutation(patch_type, expression))
            self._located.append((f"spec.mutations[{index}].{field}.expression", expression))

    def located(self) -> Iterator[Located]:
        """All expressions, each with its path, as they stand in the policy."""
        yield from self._conditions
        yield from self.composition.located
        yield from self._located


_PATCHES = {
    "ApplyConfiguration": ("applyConfiguration", expressions.OBJECT),
    "JSONPatch": ("jsonPatch", expressions.JSON_PATCH),
}

"""What ValidatingAdmissionPolicies decide of a write.

Follows Kubernetes' `policy/validating/{dispatcher,validator}.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ondol.api import status
from ondol.api.cel.policies import expressions
from ondol.api.cel.policies.expressions import Budget, Failed, OutOfBudget
from ondol.api.cel.policies.programs import Annotation, ValidatingPrograms, Validation
from ondol.apiserver.admission.request import Request
from ondol.apiserver.policies.definitions import Policy
from ondol.apiserver.policies.evaluation import Invocation, World
from ondol.apiserver.policies.pace import Pace
from ondol.apiserver.strategy import Context
from ondol.base import errors

_KIND: Final = "ValidatingAdmissionPolicy"
_REASONS: Final[Mapping[str, type[errors.ApiError]]] = {
    each.reason: each for each in (errors.Forbidden, errors.TooLarge)
}
"""What a validation may call its refusal, besides `Invalid`."""
_FAILURES: Final = "validation.policy.admission.k8s.io/validation_failure"
_MESSAGE_BYTES_MAX: Final = 5 * 1024


class Refusal(NamedTuple):
    """Why a write is refused. `is_final` if it is so whatever the binding makes of refusals."""

    message: str
    reason: str = "Invalid"
    is_final: bool = False


class _Judgement:
    """One policy with one parameter, about one write."""

    def __init__(
        self,
        programs: ValidatingPrograms,
        activation: Mapping[str, Any],
        pace: Pace,
        *,
        is_ignored_on_failure: bool,
    ) -> None:
        self._budget = Budget()
        self._programs = programs
        self._activation = programs.composition.bound(activation, self._budget)
        self._pace = pace
        self._is_ignored_on_failure = is_ignored_on_failure
        self.refusals: list[Refusal] = []
        self.annotations: dict[str, str] = {}

    async def run(self) -> None:
        try:
            if not expressions.all_hold(self._programs.conditions, self._activation):
                return
            for validation in self._programs.validations:
                before = self._budget.left
                self._validate(validation)
                await self._pace.rest(self._budget, before)
            self._budget.left = Budget().left
            for annotation in self._programs.annotations:
                before = self._budget.left
                self._annotate(annotation)
                await self._pace.rest(self._budget, before)
        except Failed as failure:
            self.refusals.clear()  # what is left undone decides for all
            self._fail(str(failure))

    def _fail(self, message: str, *, is_final: bool = False) -> None:
        if not self._is_ignored_on_failure:
            self.refusals.append(Refusal(message, is_final=is_final))

    def _validate(self, validation: Validation) -> None:
        try:
            if validation.expression.evaluate(self._activation, self._budget) is True:
                return
        except OutOfBudget:
            raise
        except Failed as failure:
            self._fail(str(failure))
            return
        document = validation.document
        try:
            message = self._message(validation)
        except OutOfBudget as failure:
            self._fail(f"failed messageExpression: {failure}")
            return
        message = message or str(document.get("message") or "").strip()
        message = message or f"failed expression: {validation.expression.source.strip()}"
        self.refusals.append(Refusal(message, str(document.get("reason") or "Invalid")))

    def _message(self, validation: Validation) -> str:
        """The text of the message's expression; nothing if that has none that can be shown."""
        if validation.message is None:
            return ""
        try:
            value = validation.message.evaluate(self._activation, self._budget)
        except OutOfBudget:
            raise
        except Failed:
            return ""
        text = value.strip() if isinstance(value, str) else ""
        return "" if "\n" in text or len(text.encode()) > _MESSAGE_BYTES_MAX else text

    def _annotate(self, annotation: Annotation) -> None:
        """Say in the audit log what an annotation's expression comes to, if to a text."""
        try:
            value = annotation.expression.evaluate(self._activation, self._budget)
            if isinstance(value, str) and value.strip():
                self.annotations[annotation.key] = value.strip()
        except OutOfBudget:
            raise
        except Failed as failure:
            self._fail(str(failure), is_final=True)


async def validate(
    world: World, policies: tuple[Policy[ValidatingPrograms], ...], context: Context, request: Request
) -> None:
    """Warn of what the policies refuse, and raise the first refusal that a binding denies for."""
    pace, denied = Pace(), None
    audited: list[tuple[Invocation[ValidatingPrograms], Refusal]] = []
    async for invocation in world.invocations(policies, context, request):
        refusals, annotations = await _judged(world, invocation, pace)
        for key, text in annotations.items():
            context.annotate(f"{invocation.policy.name}/{key}", text)
        audited += [(invocation, refusal) for refusal in refusals if not refusal.is_final]
        for refusal in refusals:
            actions = invocation.binding.actions if invocation.binding is not None else ()
            if refusal.is_final or "Deny" in actions:
                denied = denied or _denial(invocation, refusal)
            if "Warn" in actions and not refusal.is_final:
                context.warn(f"Validation failed for {_KIND} {invocation.title}: {refusal.message}")
    _audit(context, audited)
    if denied is not None:
        raise denied


def _audit(context: Context, audited: Sequence[tuple[Invocation[ValidatingPrograms], Refusal]]) -> None:
    """Say in the audit log what was refused by bindings with the action `Audit`."""
    failures = [
        {
            "message": refusal.message,
            "policy": invocation.policy.name,
            "binding": invocation.binding.name,
            "validationActions": list(invocation.binding.actions),
        }
        for invocation, refusal in audited
        if invocation.binding is not None and "Audit" in invocation.binding.actions
    ]
    if failures:
        context.annotate(_FAILURES, msgspec.json.encode(failures).decode())


async def _judged(
    world: World, invocation: Invocation[ValidatingPrograms], pace: Pace
) -> tuple[list[Refusal], Mapping[str, str]]:
    """Every reason against the write, in order, and what the audit log is to say.

    Failures are no reasons where they are passed over.
    """
    policy = invocation.policy
    if invocation.failure:
        return [] if policy.is_ignored_on_failure else [Refusal(invocation.failure, is_final=True)], {}
    judgement = _Judgement(
        policy.programs,
        world.activation(invocation.attributes, invocation.param),
        pace,
        is_ignored_on_failure=policy.is_ignored_on_failure,
    )
    await judgement.run()
    return judgement.refusals, judgement.annotations


def _denial(invocation: Invocation[ValidatingPrograms], refusal: Refusal) -> errors.ApiError:
    """The error for the client whose write a policy refused."""
    message = f"{_KIND} {invocation.title} denied request: {refusal.message}"
    attributes = invocation.attributes
    forbidden = status.forbidden(attributes.requested.resource, attributes.name or "Unknown", message)
    kind = _REASONS.get(refusal.reason, errors.Invalid)
    return kind(forbidden.message, causes=[errors.Cause("", message)], details=forbidden.details)

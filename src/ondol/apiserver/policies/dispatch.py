"""`Policies`: the admission policies that are about a write, as part of its admission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ondol.api import resources
from ondol.apiserver.admission.request import Request
from ondol.apiserver.policies.definitions import Definitions
from ondol.apiserver.ports import Authorizer
from ondol.apiserver.state import State
from ondol.apiserver.strategy import Context
from ondol.apiserver.webhooks import attributes as views

# Only a server that has policies pays for the language: what needs it is imported with the first of them.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from ondol.api.cel.policies.programs import MutatingPrograms, ValidatingPrograms


class Policies:
    """Implements the `Admission` port."""

    def __init__(self, state: State, authorizer: Authorizer) -> None:
        self._state = state
        self._authorizer = authorizer
        self._validating: Definitions[ValidatingPrograms] = Definitions(
            state,
            resources.VALIDATING_ADMISSION_POLICY,
            resources.VALIDATING_ADMISSION_POLICY_BINDING,
            _validating_programs,
        )
        self._mutating: Definitions[MutatingPrograms] = Definitions(
            state,
            resources.MUTATING_ADMISSION_POLICY,
            resources.MUTATING_ADMISSION_POLICY_BINDING,
            _mutating_programs,
        )

    async def mutate(self, context: Context, request: Request) -> None:
        """Let each policy change `request.new`; a second time those that ask for what others have changed."""
        policies = self._mutating.of(request.served)
        if not policies or not request.new or views.is_exempt(context, request):
            return
        from ondol.apiserver.policies import mutating
        from ondol.apiserver.policies.evaluation import World

        await mutating.mutate(World(self._state, self._authorizer), policies, context, request)

    async def validate(self, context: Context, request: Request) -> None:
        """Let every policy judge the object as it will be stored; one refusal is enough."""
        policies = self._validating.of(request.served)
        if not policies or views.is_exempt(context, request):
            return
        from ondol.apiserver.policies import validating
        from ondol.apiserver.policies.evaluation import World

        await validating.validate(World(self._state, self._authorizer), policies, context, request)


def _validating_programs(spec: Mapping[str, Any]) -> ValidatingPrograms:
    from ondol.api.cel.policies.programs import ValidatingPrograms

    return ValidatingPrograms(spec)


def _mutating_programs(spec: Mapping[str, Any]) -> MutatingPrograms:
    from ondol.api.cel.policies.programs import MutatingPrograms

    return MutatingPrograms(spec)

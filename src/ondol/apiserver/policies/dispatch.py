"""`Policies`: the admission policies that are about a write, as part of its admission."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

from ondol.api import objects, resources, status
from ondol.api.objects import Object
from ondol.apiserver.admission.request import Request
from ondol.apiserver.policies import parameters
from ondol.apiserver.policies.definitions import Binding, Definitions, P, Policy
from ondol.apiserver.policies.parameters import Misconfigured
from ondol.apiserver.ports import Authorizer
from ondol.apiserver.state import State
from ondol.apiserver.strategy import Context
from ondol.apiserver.webhooks import attributes as views
from ondol.apiserver.webhooks.attributes import Attributes
from ondol.base import errors

if TYPE_CHECKING:
    from ondol.api.cel.policies.programs import MutatingPrograms, Mutation, ValidatingPrograms

_KIND: Final = "ValidatingAdmissionPolicy"
_REASONS: Final[Mapping[str, type[errors.ApiError]]] = {
    each.reason: each for each in (errors.Forbidden, errors.Unauthorized, errors.TooLarge)
}
"""What a validation may call its refusal, besides `Invalid`."""


class NotMutable(errors.Forbidden):
    """A mutation that failed: Kubernetes gives these two, which elsewhere do not go together."""

    reason = "Invalid"


@dataclass(frozen=True, slots=True)
class Invocation(Generic[P]):
    """A policy that is about a write, by one binding and with one parameter."""

    policy: Policy[P]
    binding: Binding | None
    attributes: Attributes
    """The write in the version of the kind that the policy asked for."""
    param: Object | None = None
    failure: str = ""
    """Why it cannot be followed; then there may be no binding."""

    @property
    def uid(self) -> str:
        param = self.param or {}
        name = f"{objects.namespace(param)}/{objects.name(param)}"
        return f"policy/{self.policy.name}/{self.binding.name if self.binding else ''}/{name}"

    @property
    def title(self) -> str:
        return f"'{self.policy.name}'" + (f" with binding '{self.binding.name}'" if self.binding else "")


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
        failures: list[str] = []
        for invocation in list(self._invocations(policies, context, request)):
            is_seen = request.is_again and not invocation.failure
            if is_seen and not (
                invocation.policy.is_called_again and views.sees_changes(invocation.uid, request)
            ):
                continue
            failures += await self._mutate(invocation, context, request)
            request.called[invocation.uid] = request.new
        if failures:
            name = objects.name(request.new) or "Unknown"
            details = status.forbidden(request.served.resource, name, "").details
            causes = [errors.Cause("", failure) for failure in failures]
            raise NotMutable(failures[0], causes=causes, details=details)

    async def validate(self, context: Context, request: Request) -> None:
        """Let every policy judge the object as it will be stored; one refusal is enough."""
        policies = self._validating.of(request.served)
        if not policies or views.is_exempt(context, request):
            return
        from ondol.apiserver.policies import validating  # noqa: PLC0415  # only who has policies pays for CEL
        from ondol.apiserver.policies.pace import Pace  # noqa: PLC0415

        pace, denied = Pace(), None
        for invocation in self._invocations(policies, context, request):
            policy, binding = invocation.policy, invocation.binding
            if invocation.failure or binding is None:
                if not policy.is_ignored_on_failure:
                    denied = denied or _denial(invocation, validating.Refusal(invocation.failure))
                continue
            refusals = await validating.judge(
                policy.programs,
                self._activation(invocation.attributes, invocation.param),
                pace,
                is_ignored_on_failure=policy.is_ignored_on_failure,
            )
            for refusal in refusals:
                if refusal.is_final or "Deny" in binding.actions:
                    denied = denied or _denial(invocation, refusal)
                if "Warn" in binding.actions and not refusal.is_final:
                    context.warn(f"Validation failed for {_KIND} {invocation.title}: {refusal.message}")
        if denied is not None:
            raise denied

    # Who is asked

    def _invocations(
        self, policies: tuple[Policy[P], ...], context: Context, request: Request
    ) -> Iterator[Invocation[P]]:
        attributes = views.of(context, request)
        catalogue = self._state.catalogue
        for policy in policies:
            version = policy.constraints.version_for(attributes, catalogue, self._namespace)
            if version is None:
                continue
            seen = views.in_version(attributes, version)
            try:
                kind = policy.param_kind
                resource = parameters.resource_of(kind, self._state) if kind is not None else None
            except Misconfigured as error:
                yield Invocation(policy, None, seen, failure=f"failed to configure policy: {error}")
                continue
            for binding in policy.bindings:
                match = binding.constraints
                if match and match.version_for(attributes, catalogue, self._namespace) is None:
                    continue
                try:
                    params = parameters.collect(
                        resource, binding.param_ref, attributes.namespace, self._state
                    )
                except Misconfigured as error:
                    yield Invocation(policy, binding, seen, failure=f"failed to configure binding: {error}")
                    continue
                for param in params:
                    yield Invocation(policy, binding, seen, param)

    def _namespace(self, name: str) -> Object | None:
        return self._state.lookup(resources.NAMESPACE, "", name)

    def _activation(self, attributes: Attributes, param: Object | None) -> dict[str, Any]:
        from ondol.apiserver.policies import evaluation  # noqa: PLC0415  # likewise

        namespace = self._namespace(attributes.namespace) if attributes.namespace else None
        return evaluation.activation(attributes, param, namespace, self._authorizer)

    # Mutation

    async def _mutate(
        self, invocation: Invocation[MutatingPrograms], context: Context, request: Request
    ) -> list[str]:
        """Apply a policy's mutations one after the other; why some fail, unless that is passed over."""
        from ondol.api.cel.policies.expressions import Budget, Failed  # noqa: PLC0415  # likewise
        from ondol.apiserver.policies import mutating  # noqa: PLC0415
        from ondol.apiserver.policies.pace import Pace  # noqa: PLC0415

        failures, pace = [invocation.failure] if invocation.failure else [], Pace()
        programs = invocation.policy.programs
        try:
            is_meant = not failures and mutating.is_meant(
                programs, self._activation(self._now(invocation, context, request), invocation.param)
            )
        except Failed as failure:
            is_meant = False
            failures.append(str(failure))
        for mutation in programs.mutations if is_meant else ():
            budget = Budget()
            before = budget.left
            try:
                self._change(invocation, mutation, context, request, budget)
            except Failed as failure:
                failures.append(str(failure))
            await pace.rest(budget, before)
        if invocation.policy.is_ignored_on_failure:
            return []
        title = invocation.title if invocation.binding else f'"{invocation.policy.name}"'
        return [f"policy {title} denied request: {failure}" for failure in failures]

    def _now(
        self, invocation: Invocation[MutatingPrograms], context: Context, request: Request
    ) -> Attributes:
        """The write with what was changed so far."""
        return views.in_version(views.of(context, request), invocation.attributes.served)

    def _change(
        self,
        invocation: Invocation[MutatingPrograms],
        mutation: Mutation,
        context: Context,
        request: Request,
        budget: Any,
    ) -> None:
        from ondol.api.cel.policies.expressions import Failed  # noqa: PLC0415  # likewise
        from ondol.apiserver.policies import mutating  # noqa: PLC0415

        attributes = self._now(invocation, context, request)
        if attributes.obj is None:
            return
        activation = self._activation(attributes, invocation.param)
        shape = attributes.served.schema.shape
        patched = mutating.changed(invocation.policy.programs, mutation, activation, shape, budget)
        if patched == attributes.obj:
            return
        try:
            changed = views.as_requested(request, attributes, patched)
        except errors.ApiError as error:
            raise Failed(error.message) from None
        if changed != request.new:
            request.new = changed


def _denial(invocation: Invocation[Any], refusal: Any) -> errors.ApiError:
    """The error for the client whose write a policy refused."""
    message = f"{_KIND} {invocation.title} denied request: {refusal.message}"
    attributes = invocation.attributes
    forbidden = status.forbidden(attributes.requested.resource, attributes.name or "Unknown", message)
    kind = _REASONS.get(refusal.reason, errors.Invalid)
    return kind(forbidden.message, causes=[errors.Cause("", message)], details=forbidden.details)


def _validating_programs(spec: Mapping[str, Any]) -> ValidatingPrograms:
    from ondol.api.cel.policies.programs import ValidatingPrograms  # noqa: PLC0415  # with the first policy

    return ValidatingPrograms(spec)


def _mutating_programs(spec: Mapping[str, Any]) -> MutatingPrograms:
    from ondol.api.cel.policies.programs import MutatingPrograms  # noqa: PLC0415  # with the first policy

    return MutatingPrograms(spec)

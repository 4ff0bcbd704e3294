"""Admission policies, and the bindings that make them hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ondol.api.defaults import admission as defaults
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import admission as tables
from ondol.api.validation import Rules
from ondol.api.validation import admission_policies as rules
from ondol.apiserver.admission import policy_parameters
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.policies.observed import Observed
from ondol.apiserver.strategy import Strategy
from ondol.base.errors import Cause

_GROUP: Final = "admissionregistration.k8s.io"


class Policy(Strategy):
    """A client that overwrites one must say which it has seen."""

    has_generation: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False


class ValidatingPolicy(Observed):
    """Its status says which generation is in force."""

    unconditional_update: ClassVar[bool] = False
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}


def _validating(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """What is wrong with a policy, its expressions last: who writes none does not pay for their language."""
    problems = list(rules.validating_policy(obj))
    yield from problems
    if not problems:
        from ondol.api.cel.policies import checking  # noqa: PLC0415

        yield from checking.validating_policy(obj)


def _mutating(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Likewise."""
    problems = list(rules.mutating_policy(obj))
    yield from problems
    if not problems:
        from ondol.api.cel.policies import checking  # noqa: PLC0415

        yield from checking.mutating_policy(obj)


KINDS: Final = (
    Kind(
        _GROUP,
        "ValidatingAdmissionPolicy",
        strategy=ValidatingPolicy(),
        default=defaults.policy,
        rules=Rules(_validating),
        layout=tables.VALIDATING_POLICY,
        plugins=Plugins(validating=(policy_parameters.admit_policy,)),
    ),
    Kind(
        _GROUP,
        "ValidatingAdmissionPolicyBinding",
        strategy=Policy(),
        default=defaults.binding,
        rules=Rules(rules.validating_binding),
        layout=tables.BINDING,
        plugins=Plugins(validating=(policy_parameters.admit_validating_binding,)),
    ),
    Kind(
        _GROUP,
        "MutatingAdmissionPolicy",
        strategy=Policy(),
        default=defaults.policy,
        rules=Rules(_mutating),
        layout=tables.MUTATING_POLICY,
        plugins=Plugins(validating=(policy_parameters.admit_policy,)),
    ),
    Kind(
        _GROUP,
        "MutatingAdmissionPolicyBinding",
        strategy=Policy(),
        default=defaults.binding,
        rules=Rules(rules.mutating_binding),
        layout=tables.BINDING,
        plugins=Plugins(validating=(policy_parameters.admit_mutating_binding,)),
    ),
)

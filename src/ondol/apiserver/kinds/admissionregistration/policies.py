"""Admission policies, and the bindings that make them hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final

from ondol.api.defaults import admission as defaults
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import admission as tables
from ondol.api.validation import Rule, Rules
from ondol.api.validation import admission_policies as rules
from ondol.apiserver import documents
from ondol.apiserver.admission import policy_parameters
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.policies.observed import Observed
from ondol.apiserver.served import Conversion
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


def _compiled(plain: Rule, compiled: Callable[[], Rule]) -> Rule:
    """The plain rules, and if nothing is wrong by them those of the expressions.

    Who writes no policy does not pay for the language: `compiled` imports it.
    """

    def check(obj: Mapping[str, Any]) -> Iterator[Cause]:
        problems = list(plain(obj))
        yield from problems or compiled()(obj)

    return check


def _validating() -> Rule:
    from ondol.api.cel.policies import checking  # noqa: PLC0415

    return checking.validating_policy


def _mutating() -> Rule:
    from ondol.api.cel.policies import checking  # noqa: PLC0415

    return checking.mutating_policy


def _mutating_kinds(version: str, conversion: Conversion | None = None) -> tuple[Kind, Kind]:
    """Both versions are one form; the older is stored."""
    policy = Kind(
        _GROUP,
        "MutatingAdmissionPolicy",
        version=version,
        strategy=Policy(),
        default=defaults.policy,
        rules=Rules(_compiled(rules.mutating_policy, _mutating)),
        layout=tables.MUTATING_POLICY,
        plugins=Plugins(validating=(policy_parameters.admit_policy,)),
        conversion=conversion,
    )
    binding = Kind(
        _GROUP,
        "MutatingAdmissionPolicyBinding",
        version=version,
        strategy=Policy(),
        default=defaults.binding,
        rules=Rules(rules.mutating_binding),
        layout=tables.BINDING,
        plugins=Plugins(validating=(policy_parameters.admit_mutating_binding,)),
        conversion=conversion,
    )
    return policy, binding


class _Relabelled:
    """Between `v1` and `v1beta1`, which differ in nothing else."""

    keeps_texts = True

    def as_served(self, value: bytes) -> bytes:
        return documents.dump({**documents.parse(value), "apiVersion": f"{_GROUP}/v1"})

    def stored(self, obj: Object) -> Object:
        return {**obj, "apiVersion": f"{_GROUP}/v1beta1"}


KINDS: Final = (
    Kind(
        _GROUP,
        "ValidatingAdmissionPolicy",
        strategy=ValidatingPolicy(),
        default=defaults.policy,
        rules=Rules(_compiled(rules.validating_policy, _validating)),
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
    *_mutating_kinds("v1beta1"),
    *_mutating_kinds("v1", _Relabelled()),
)

"""Admission policies, and the bindings that make them hold."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import admission as defaults
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import admission as tables
from ondol.api.validation import Rules
from ondol.api.validation import admission_policies as rules
from ondol.apiserver.admission import policy_parameters
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported

_GROUP: Final = "admissionregistration.k8s.io"


class Policy(Strategy):
    """A client that overwrites one must say which it has seen."""

    has_generation: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False


class ValidatingPolicy(Policy):
    """What was found out about its expressions is its status."""

    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}


_UNSUPPORTED: Final = Unsupported(kind="admission policies are not evaluated by this server yet")

KINDS: Final = (
    Kind(
        _GROUP,
        "ValidatingAdmissionPolicy",
        strategy=ValidatingPolicy(),
        default=defaults.policy,
        rules=Rules(rules.validating_policy),
        layout=tables.VALIDATING_POLICY,
        unsupported=_UNSUPPORTED,
        plugins=Plugins(validating=(policy_parameters.admit_policy,)),
    ),
    Kind(
        _GROUP,
        "ValidatingAdmissionPolicyBinding",
        strategy=Policy(),
        default=defaults.binding,
        rules=Rules(rules.validating_binding),
        layout=tables.BINDING,
        unsupported=_UNSUPPORTED,
        plugins=Plugins(validating=(policy_parameters.admit_validating_binding,)),
    ),
    Kind(
        _GROUP,
        "MutatingAdmissionPolicy",
        strategy=Policy(),
        default=defaults.policy,
        rules=Rules(rules.mutating_policy),
        layout=tables.MUTATING_POLICY,
        unsupported=_UNSUPPORTED,
        plugins=Plugins(validating=(policy_parameters.admit_policy,)),
    ),
    Kind(
        _GROUP,
        "MutatingAdmissionPolicyBinding",
        strategy=Policy(),
        default=defaults.binding,
        rules=Rules(rules.mutating_binding),
        layout=tables.BINDING,
        unsupported=_UNSUPPORTED,
        plugins=Plugins(validating=(policy_parameters.admit_mutating_binding,)),
    ),
)

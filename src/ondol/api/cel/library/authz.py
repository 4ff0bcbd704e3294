"""Whether somebody may do something.

    authorizer.group('apps').resource('deployments').check('create').allowed()

The answer is the authorizer's that the activation brings; this module knows only the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from ondol.api.cel import types as t
from ondol.api.cel import values
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method
from ondol.api.cel.types import Type
from ondol.api.cel.values import Opaque, TypeValue
from ondol.base import names

_PREFIX: Final = "kubernetes.authorization."
AUTHORIZER: Final = t.object_named(f"{_PREFIX}Authorizer")
PATH_CHECK: Final = t.object_named(f"{_PREFIX}PathCheck")
GROUP_CHECK: Final = t.object_named(f"{_PREFIX}GroupCheck")
RESOURCE_CHECK: Final = t.object_named(f"{_PREFIX}ResourceCheck")
DECISION: Final = t.object_named(f"{_PREFIX}Decision")
_CHECK_COST: Final = 350_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the authorizer; of a path, or of a resource.

    `service_account` is the namespace and name of who is asked about; None for who makes the request.
    """

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    service_account: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Decision(Opaque):
    allowed: bool
    reason: str = ""
    error: str = ""

    cel_type = TypeValue(f"{_PREFIX}Decision")


class Port(Protocol):
    """Decides; the side of this module that the server implements."""

    def decide(self, question: Question) -> Decision: ...


@dataclass(frozen=True, slots=True)
class _Check(Opaque):
    """A question that is being put together; `cel_type` says how far it is."""

    port: Port
    question: Question
    cel_type: TypeValue


def authorizer(port: Port) -> Opaque:
    """The value of the variable `authorizer`."""
    return _Check(port, Question(""), TypeValue(AUTHORIZER.name))


def resource_check(port: Port, question: Question) -> Opaque:
    """The value of `authorizer.requestResource`: a question without its verb."""
    return _Check(port, question, TypeValue(RESOURCE_CHECK.name))


def _asking(to: Type, **fields: Callable[[str], str]) -> Callable[..., _Check]:
    """A step that puts one text into the question."""
    ((field, checked),) = fields.items()

    def run(check: _Check, text: str) -> _Check:
        changes: dict[str, Any] = {field: checked(text)}
        return _Check(check.port, replace(check.question, **changes), TypeValue(to.name))

    return run


def _any(text: str) -> str:
    return text


def _filled(what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not text.strip():
            raise EvaluationError(f"{what} must not be empty")
        return text

    return check


def _service_account(check: _Check, namespace: str, name: str) -> _Check:
    if not names.is_dns1123_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if not names.is_dns1123_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    question = replace(check.question, service_account=(namespace, name))
    return _Check(check.port, question, check.cel_type)


def _decide(check: _Check, verb: str) -> Decision:
    return check.port.decide(replace(check.question, verb=verb))


def _check_cost(_: Sequence[Any]) -> int:
    return _CHECK_COST


def _selector_cost(args: Sequence[Any]) -> int:
    size = values.cost_size(args[1])
    return 10 + (size + 9) // 10 + (size + 1) // 2 * 50


def _step(name: str, id: str, of: Type, to: Type, run: Any, *, cost: Any = None) -> Function:
    return function(name, method(id, (of, t.STRING), to, run, cost))


def _refining(name: str, id: str, field: str, cost: Any = None) -> Function:
    run = _asking(RESOURCE_CHECK, **{field: _any})
    return _step(name, id, RESOURCE_CHECK, RESOURCE_CHECK, run, cost=cost)


def _answer(name: str, result: Type, run: Callable[[Decision], Any]) -> Function:
    return function(name, method(f"decision_{name}", (DECISION,), result, run))


FUNCTIONS: Final[list[Function]] = [
    _step("path", "authorizer_path", AUTHORIZER, PATH_CHECK, _asking(PATH_CHECK, path=_filled("path"))),
    _step("group", "authorizer_group", AUTHORIZER, GROUP_CHECK, _asking(GROUP_CHECK, group=_any)),
    function(
        "serviceAccount",
        method("authorizer_serviceaccount", (AUTHORIZER, t.STRING, t.STRING), AUTHORIZER, _service_account),
    ),
    _step(
        "resource",
        "groupcheck_resource",
        GROUP_CHECK,
        RESOURCE_CHECK,
        _asking(RESOURCE_CHECK, resource=_filled("resource")),
    ),
    _refining("subresource", "resourcecheck_subresource", "subresource"),
    _refining("namespace", "resourcecheck_namespace", "namespace"),
    _refining("name", "resourcecheck_name", "name"),
    _refining("fieldSelector", "authorizer_fieldselector", "field_selector", _selector_cost),
    _refining("labelSelector", "authorizer_labelselector", "label_selector", _selector_cost),
    function(
        "check",
        method("pathcheck_check", (PATH_CHECK, t.STRING), DECISION, _decide, _check_cost),
        method("resourcecheck_check", (RESOURCE_CHECK, t.STRING), DECISION, _decide, _check_cost),
    ),
    _answer("errored", t.BOOL, lambda decision: bool(decision.error)),
    _answer("error", t.STRING, lambda decision: decision.error),
    _answer("allowed", t.BOOL, lambda decision: decision.allowed),
    _answer("reason", t.STRING, lambda decision: decision.reason),
]
TYPES: Final = {each.name: each for each in (AUTHORIZER, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK, DECISION)}

"""How calls of functions and operators are compiled.

Where the checker knows the types of the operands, an operator becomes the Python one; otherwise, and for
functions that have several overloads, the values decide which one runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ondol.api.cel import nodes, operators, typed_lists, values
from ondol.api.cel.errors import CostExceeded, EvaluationError, NoSuchOverload
from ondol.api.cel.frames import COST, LIMIT, Frame, Run
from ondol.api.cel.functions import Overload
from ondol.api.cel.nodes import Call, Node
from ondol.api.cel.optionals import optional_field
from ondol.api.cel.types import Read, Type, field_of
from ondol.api.cel.values import Optional
from ondol.base import regexp
from ondol.base.errors import TooLarge


class Compiler(Protocol):
    """What a call needs of the compiler of the whole."""

    def compile(self, node: Node) -> Run: ...

    def constant(self, node: Node) -> tuple[Any] | None: ...


_CONVERSIONS: Final = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
)


def compiled(compiler: Compiler, node: Call) -> Run:
    constant = folded(compiler, node)
    if constant is not None:
        value = constant[0]
        return lambda _: value
    special = _SPECIAL.get(node.function)
    if special is not None:
        run = special(compiler, node)
        if run is not None:
            return run
    return _function(compiler, node)


def folded(compiler: Compiler, node: Call) -> tuple[Any] | None:
    """The value of a conversion of a constant, such as `duration('1h')`."""
    if node.function not in _CONVERSIONS or node.target is not None or len(node.args) != 1:
        return None
    argument = compiler.constant(node.args[0])
    if argument is None:
        return None
    try:
        return (_chosen(node.overloads, argument).run(*argument),)
    except EvaluationError:
        return None  # it fails when it is evaluated, and only then


def _function(compiler: Compiler, node: Call) -> Run:
    operands = [node.target, *node.args] if node.target is not None else node.args
    runs = [compiler.compile(operand) for operand in operands]
    overloads = node.overloads
    exact = len(overloads) == 1 and not any(_open(operand.type) for operand in operands)
    only = overloads[0] if exact else None

    def run(frame: Frame) -> Any:
        args = [operand(frame) for operand in runs]
        chosen = only or _chosen(overloads, args)
        if chosen.result_cost is None:
            frame[COST] += 1 if chosen.cost is None else chosen.cost(args)
            if frame[COST] > frame[LIMIT]:
                raise CostExceeded
            return chosen.run(*args)
        result = chosen.run(*args)
        frame[COST] += chosen.result_cost(result)
        return result

    return run


def _open(type_: Type) -> bool:
    return type_.kind in ("dyn", "error", "param", "null") or any(map(_open, type_.params))


def _chosen(overloads: Sequence[Overload], args: Sequence[Any]) -> Overload:
    for overload in overloads:
        if all(map(_is_of, overload.args, args)):
            return overload
    raise NoSuchOverload


_PYTHON: Final[dict[str, type]] = {
    "null": type(None),
    "bool": bool,
    "int": int,
    "uint": values.Uint,
    "double": float,
    "string": str,
    "bytes": bytes,
    "list": list,
    "map": dict,
    "duration": values.Duration,
    "timestamp": values.Timestamp,
    "type": values.TypeValue,
}


_SCALAR_KINDS: Final = frozenset(
    ("bool", "int", "uint", "double", "string", "bytes", "duration", "timestamp")
)


def _is_of(declared: Type, value: Any) -> bool:
    """Whether a value can be passed where the type is declared."""
    if declared.kind in ("dyn", "param"):
        return True
    expected = _PYTHON.get(declared.kind)
    if declared.kind == "list" and type(value) is list and value and declared.params[0].kind in _SCALAR_KINDS:
        return _is_of(declared.params[0], value[0])
    if expected is not None:
        return type(value) is expected
    return values.type_of(value).name == declared.name


def _binary(compiler: Compiler, node: Call) -> tuple[Run, Run, str]:
    """The operands, and their kind if it is the same and known."""
    left, right = node.args
    kind = left.type.kind if left.type.kind == right.type.kind else ""
    return compiler.compile(left), compiler.compile(right), kind


def _and(compiler: Compiler, node: Call) -> Run:
    return _logic(compiler, node, deciding=False)


def _or(compiler: Compiler, node: Call) -> Run:
    return _logic(compiler, node, deciding=True)


def _logic(compiler: Compiler, node: Call, *, deciding: bool) -> Run:
    """`&&` and `||`: one side that decides makes up for an error of the other."""
    left, right, _ = _binary(compiler, node)

    def run(frame: Frame) -> Any:
        try:
            outcome = left(frame)
        except EvaluationError as wrong:
            return _other_side(right(frame), deciding, wrong)
        if outcome is deciding:
            return deciding
        if type(outcome) is not bool:
            return _other_side(right(frame), deciding, NoSuchOverload())
        outcome = right(frame)
        if type(outcome) is not bool:
            raise NoSuchOverload
        return outcome

    return run


def _other_side(outcome: Any, deciding: bool, error: EvaluationError) -> bool:
    if outcome is deciding:
        return bool(outcome)
    raise error


def _conditional(compiler: Compiler, node: Call) -> Run:
    test, positive, negative = (compiler.compile(arg) for arg in node.args)
    positive, negative = _branch(node.args[1], positive), _branch(node.args[2], negative)

    def run(frame: Frame) -> Any:
        outcome = test(frame)
        if outcome is True:
            return positive(frame)
        if outcome is False:
            return negative(frame)
        raise NoSuchOverload

    return run


def _branch(node: Node, run: Run) -> Run:
    """A branch that is a variable or a chain from one: its first step is free."""
    if not _is_chain(node):
        return run

    def cheaper(frame: Frame) -> Any:
        frame[COST] -= 1
        return run(frame)

    return cheaper


def _is_chain(node: Node) -> bool:
    if isinstance(node, nodes.Ident):
        return node.constant is None
    return (isinstance(node, nodes.Select) and not node.test_only) or _indexes(node)


def _not(compiler: Compiler, node: Call) -> Run:
    operand = compiler.compile(node.args[0])

    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame[COST] += 1
        return operators.negated(value)

    return run


def tenth(size: int) -> int:
    """What going over so many characters costs."""
    return (size + 9) // 10


_SCALAR: Final = ("bool", "int", "uint", "duration", "timestamp", "bytes", "string")


def _equality(compiler: Compiler, node: Call) -> Run:
    left, right, kind = _binary(compiler, node)
    negated = node.function == "_!=_"
    if kind in _SCALAR:
        compare: Callable[[Any, Any], Any] = operator.ne if negated else operator.eq
        return _sized(left, right, compare) if kind in ("string", "bytes") else _plain(left, right, compare)
    equal = typed_lists.equality(node.args[0].type, node.args[1].type) or _deep(
        *(arg.type for arg in node.args)
    )
    if negated:
        return _sized(left, right, lambda one, other: not equal(one, other))
    return _sized(left, right, equal)


def _deep(one: Type, other: Type) -> Callable[[Any, Any], bool]:
    """Equality of structures: Python's where it means the same, which is many times as fast."""
    if one == other and one.kind in ("list", "map") and one.params[-1].kind in _SCALAR:
        return lambda one, other: bool(one == other)
    return values.equal


def _sized(left: Run, right: Run, compare: Callable[[Any, Any], Any]) -> Run:
    """An operator that costs by the smaller of its operands."""

    def run(frame: Frame) -> Any:
        frame[COST] += 1  # an operand that fails is compared as well
        one, other = left(frame), right(frame)
        frame[COST] += tenth(min(values.cost_size(one), values.cost_size(other))) - 1
        if frame[COST] > frame[LIMIT]:
            raise CostExceeded
        return compare(one, other)

    return run


def _plain(left: Run, right: Run, compare: Callable[[Any, Any], Any]) -> Run:
    """An operator that costs one."""

    def run(frame: Frame) -> Any:
        frame[COST] += 1
        return compare(left(frame), right(frame))

    return run


_ORDERINGS: Final[dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]]] = {
    "_<_": (operator.lt, operators.less),
    "_<=_": (operator.le, operators.less_or_equal),
    "_>_": (operator.gt, operators.greater),
    "_>=_": (operator.ge, operators.greater_or_equal),
}


def _ordering(compiler: Compiler, node: Call) -> Run:
    left, right, kind = _binary(compiler, node)
    direct, general = _ORDERINGS[node.function]
    if kind in ("string", "bytes"):
        return _sized(left, right, direct)
    if kind in ("int", "uint", "bool", "duration", "timestamp"):
        return _plain(left, right, direct)
    if kind == "double":
        return _plain(left, right, general)
    return _sized(left, right, general)


_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "_+_": operators.add,
    "_-_": operators.subtract,
    "_*_": operators.multiply,
    "_/_": operators.divide,
    "_%_": operators.modulo,
}


def _arithmetic(compiler: Compiler, node: Call) -> Run:
    left, right, kind = _binary(compiler, node)
    if kind == "int" and node.function in _INTEGER:
        return _integer(left, right, _INTEGER[node.function])
    compute = _ARITHMETIC[node.function]
    if node.function == "_+_":
        return _sum(left, right, typed_lists.concatenation(node.args[0].type) or compute)
    return _plain(left, right, compute)


_INTEGER: Final = {"_+_": operator.add, "_-_": operator.sub, "_*_": operator.mul}


def _integer(left: Run, right: Run, compute: Callable[[Any, Any], int]) -> Run:
    least, most = values.INT_MIN, values.INT_MAX

    def run(frame: Frame) -> Any:
        frame[COST] += 1
        value = compute(left(frame), right(frame))
        if least <= value <= most:
            return value
        raise EvaluationError("integer overflow")

    return run


def _sum(left: Run, right: Run, compute: Callable[[Any, Any], Any]) -> Run:
    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        kind = type(one)
        if kind is str or kind is bytes:
            frame[COST] += tenth(len(one) + values.cost_size(other))
        elif kind is list:
            # One in Kubernetes, whose lists are not copied; here a long one is worth its copy.
            frame[COST] += 1 + (len(one) + values.cost_size(other)) // 100
        else:
            frame[COST] += 1
        if frame[COST] > frame[LIMIT]:
            raise CostExceeded
        return compute(one, other)

    return run


def _negate(compiler: Compiler, node: Call) -> Run:
    operand = compiler.compile(node.args[0])

    def run(frame: Frame) -> Any:
        frame[COST] += 1
        return operators.negate(operand(frame))

    return run


def _in(compiler: Compiler, node: Call) -> Run:
    constant = compiler.constant(node.args[1])
    element = compiler.compile(node.args[0])
    if constant is not None and type(constant[0]) is list:
        return _membership(element, constant[0])
    container = compiler.compile(node.args[1])

    def run(frame: Frame) -> Any:
        value, place = element(frame), container(frame)
        frame[COST] += len(place) if type(place) is list else 1
        if frame[COST] > frame[LIMIT]:
            raise CostExceeded
        return operators.contains(value, place)

    return run


def _membership(element: Run, choices: list[Any]) -> Run:
    """`x in ['a', 'b']` looks into a set, which costs nothing."""
    if all(type(choice) is str for choice in choices):
        texts = frozenset(choices)

        def run(frame: Frame) -> Any:
            value = element(frame)
            return type(value) is str and value in texts

        return run
    return lambda frame: operators.contains(element(frame), choices)


def _index(compiler: Compiler, node: Call) -> Run:
    container, place = compiler.compile(node.args[0]), compiler.compile(node.args[1])
    cost = 1 if isinstance(node.args[0], nodes.Ident | nodes.Select) or _indexes(node.args[0]) else 2
    if _is_chain(node.args[1]):
        cost -= 1  # an index that is a variable is part of the chain
    at = operators.index if node.function == nodes.INDEX else operators.optional_index

    def run(frame: Frame) -> Any:
        value, key = container(frame), place(frame)
        frame[COST] += cost
        return at(value, key)

    return run


def _indexes(node: Node) -> bool:
    return isinstance(node, Call) and node.function == nodes.INDEX


def _optional_select(compiler: Compiler, node: Call) -> Run:
    operand, name = compiler.compile(node.args[0]), node.args[1]
    key = str(name.value if isinstance(name, nodes.Literal) else "")
    read: Read | None = None
    declared = node.args[0].type
    if declared.kind == "opaque" and declared.params:
        declared = declared.params[0]
    field = field_of(declared, key) if declared.kind == "object" else None
    if field is not None:
        key, read = field.key, field.type.read

    def run(frame: Frame) -> Any:
        selected = optional_field(operand(frame), key)
        frame[COST] += selected.has_value
        if read is None or not selected.has_value or selected.value is None:
            return selected
        return Optional(read(selected.value))

    return run


def _alternative(compiler: Compiler, node: Call) -> Run | None:
    """`or` and `orValue`, which evaluate the other side only when the first has no value."""
    if node.target is None or len(node.args) != 1:
        return None
    first, second = compiler.compile(node.target), compiler.compile(node.args[0])
    unwraps = node.function == "orValue"

    def run(frame: Frame) -> Any:
        value = first(frame)
        if type(value) is not Optional:
            raise NoSuchOverload
        if value.has_value:
            return value.value if unwraps else value
        return second(frame)

    return run


def _matches(compiler: Compiler, node: Call) -> Run | None:
    """`text.matches('...')`: a constant pattern is compiled once."""
    text_of, pattern_of = (node.target, node.args[0]) if node.target is not None else node.args
    constant = compiler.constant(pattern_of)
    if constant is None or type(constant[0]) is not str or text_of.type.kind != "string":
        return None
    try:
        pattern = regexp.compiled(constant[0])
    except ValueError:
        return None
    text = compiler.compile(text_of)
    cost = (len(constant[0]) + 3) // 4
    search = _remembering(pattern)

    def run(frame: Frame) -> Any:
        value = text(frame)
        frame[COST] += tenth(len(value) + 1) * cost
        if frame[COST] > frame[LIMIT]:
            raise CostExceeded
        return search(value)

    return run


_REMEMBERED_MAX: Final = 256
_REMEMBERED_CHARACTERS_MAX: Final = 128


def _remembering(pattern: regexp.Pattern) -> Callable[[str], bool]:
    """Whether a text matches; short ones are remembered, since an object is written again and again."""
    outcomes: dict[str, bool] = {}

    def search(text: str) -> bool:
        outcome = outcomes.get(text)
        if outcome is None:
            try:
                outcome = pattern.search(text)
            except TooLarge:
                raise CostExceeded from None
            if len(text) <= _REMEMBERED_CHARACTERS_MAX:
                if len(outcomes) >= _REMEMBERED_MAX:
                    outcomes.clear()
                outcomes[text] = outcome
        return outcome

    return search


_SPECIAL: Final[dict[str, Callable[[Compiler, Call], Run | None]]] = {
    nodes.AND: _and,
    nodes.OR: _or,
    nodes.CONDITIONAL: _conditional,
    nodes.NOT: _not,
    nodes.NEGATE: _negate,
    nodes.IN: _in,
    nodes.INDEX: _index,
    nodes.OPTIONAL_INDEX: _index,
    nodes.OPTIONAL_SELECT: _optional_select,
    "_==_": _equality,
    "_!=_": _equality,
    **dict.fromkeys(_ORDERINGS, _ordering),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    "or": _alternative,
    "orValue": _alternative,
    "matches": _matches,
}

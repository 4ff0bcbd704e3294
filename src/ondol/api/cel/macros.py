"""Calls that are not functions: each is replaced by what it stands for while it is parsed.

A macro is chosen by its name, its number of arguments and whether it is called on something. Those with two
variables go over the index and element of a list, or the key and value of a map.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

from ondol.api.cel import nodes
from ondol.api.cel.nodes import Call, Comprehension, Ident, ListOf, Literal, MapOf, Node, Select

_HIDDEN: Final = (nodes.ACCUMULATOR, "__result__")


class BadMacro(Exception):
    """The arguments of a macro are not of its form; `offset` is the place of the wrong one.

    Never leaves the parser, which words it as an issue.
    """

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


Expander = Callable[[Call], Node | None]
"""From the call as it is written to what it stands for; None where it is a plain call after all."""


def expanded(call: Call) -> Node:
    """The call, or what it stands for."""
    expander = _MACROS.get((call.function, len(call.args), call.target is not None))
    if expander is None:
        return call
    node = expander(call)
    if node is None:
        return call
    if isinstance(node, Comprehension | Call):
        node.macro = call
    return node


def _accu(call: Call) -> Ident:
    return Ident(nodes.ACCUMULATOR, call.offset)


def _operator(call: Call, function: str, *args: Node) -> Call:
    return Call(function, None, list(args), call.offset)


def _variables(call: Call, count: int, message: str) -> list[str]:
    names = []
    for argument in call.args[:count]:
        if not isinstance(argument, Ident):
            raise BadMacro(argument.offset, message)
        if argument.name in _HIDDEN:
            raise BadMacro(argument.offset, "iteration variable overwrites accumulator variable")
        if argument.name in names:
            raise BadMacro(argument.offset, f"duplicate variable name: {argument.name}")
        names.append(argument.name)
    return [*names, ""][:2]


def _fold(call: Call, count: int, message: str, *, init: Node, condition: Node, step: Node) -> Comprehension:
    assert call.target is not None  # noqa: S101 - the table below names it for methods only
    var, var2 = _variables(call, count, message)
    return Comprehension(
        call.target,
        var,
        var2,
        nodes.ACCUMULATOR,
        init,
        condition,
        step,
        _accu(call),
        call.offset,
    )


_SIMPLE_NAME: Final = "argument must be a simple name"
_NOT_AN_IDENTIFIER: Final = "argument is not an identifier"


def _has(call: Call) -> Node:
    tested = call.args[0]
    if not isinstance(tested, Select) or tested.test_only:
        raise BadMacro(tested.offset, "invalid argument to has() macro")
    return Select(tested.operand, tested.name, test_only=True, offset=call.offset)


def _all(call: Call) -> Node:
    condition = _operator(call, nodes.NOT_STRICTLY_FALSE, _accu(call))
    step = _operator(call, nodes.AND, _accu(call), call.args[-1])
    init = Literal(True, call.offset)
    return _fold(call, len(call.args) - 1, _SIMPLE_NAME, init=init, condition=condition, step=step)


def _exists(call: Call) -> Node:
    negated = _operator(call, nodes.NOT, _accu(call))
    condition = _operator(call, nodes.NOT_STRICTLY_FALSE, negated)
    step = _operator(call, nodes.OR, _accu(call), call.args[-1])
    init = Literal(False, call.offset)
    return _fold(call, len(call.args) - 1, _SIMPLE_NAME, init=init, condition=condition, step=step)


def _exists_one(call: Call) -> Node:
    one = Literal(1, call.offset)
    more = _operator(call, "_+_", _accu(call), one)
    step = _operator(call, nodes.CONDITIONAL, call.args[-1], more, _accu(call))
    always = Literal(True, call.offset)
    fold = _fold(
        call, len(call.args) - 1, _SIMPLE_NAME, init=Literal(0, call.offset), condition=always, step=step
    )
    fold.result = _operator(call, "_==_", _accu(call), Literal(1, call.offset))
    return fold


def _collected(call: Call, count: int, init: Node, addition: Node, keep: Node | None) -> Node:
    step = addition
    if keep is not None:
        step = _operator(call, nodes.CONDITIONAL, keep, step, _accu(call))
    return _fold(call, count, _NOT_AN_IDENTIFIER, init=init, condition=Literal(True, call.offset), step=step)


def _listed(call: Call, count: int, element: Node, keep: Node | None) -> Node:
    addition = _operator(call, "_+_", _accu(call), ListOf([element], offset=call.offset))
    return _collected(call, count, ListOf([], offset=call.offset), addition, keep)


def _map(call: Call) -> Node:
    return _listed(call, 1, call.args[-1], call.args[1] if len(call.args) == 3 else None)


def _filter(call: Call) -> Node:
    return _listed(call, 1, copy.copy(call.args[0]), call.args[1])


def _transform_list(call: Call) -> Node:
    return _listed(call, 2, call.args[-1], call.args[2] if len(call.args) == 4 else None)


def _transform_map(call: Call) -> Node:
    key = copy.copy(call.args[0])
    addition = _operator(call, nodes.MAP_INSERT, _accu(call), key, call.args[-1])
    keep = call.args[2] if len(call.args) == 4 else None
    return _collected(call, 2, MapOf([], call.offset), addition, keep)


def _transform_map_entry(call: Call) -> Node:
    addition = _operator(call, nodes.MAP_INSERT, _accu(call), call.args[-1])
    keep = call.args[2] if len(call.args) == 4 else None
    return _collected(call, 2, MapOf([], call.offset), addition, keep)


def _bound(name: Node, message: str, init: Node, result: Node, offset: int) -> Comprehension:
    """What gives a name to a value: a fold over nothing, whose start is the value."""
    if not isinstance(name, Ident):
        raise BadMacro(name.offset, message)
    never = Literal(False, offset)
    return Comprehension(
        ListOf([], offset=offset),
        nodes.UNUSED,
        "",
        name.name,
        init,
        never,
        Ident(name.name, offset),
        result,
        offset,
    )


def _bind(call: Call) -> Node | None:
    if not (isinstance(call.target, Ident) and call.target.name == "cel"):
        return None
    message = "cel.bind() variable names must be simple identifiers"
    return _bound(call.args[0], message, call.args[1], call.args[2], call.offset)


def _opt_map(call: Call) -> Node:
    inner = _of_value(call, "optMap() variable name must be a simple identifier")
    return _if_present(call, Call("optional.of", None, [inner], call.offset))


def _opt_flat_map(call: Call) -> Node:
    return _if_present(call, _of_value(call, "optFlatMap() variable name must be a simple identifier"))


def _of_value(call: Call, message: str) -> Node:
    value = Call("value", copy.deepcopy(call.target), [], call.offset)
    return _bound(call.args[0], message, value, call.args[1], call.offset)


def _if_present(call: Call, present: Node) -> Node:
    tested = Call("hasValue", call.target, [], call.offset)
    return _operator(call, nodes.CONDITIONAL, tested, present, Call("optional.none", None, [], call.offset))


def _sort_by(call: Call) -> Node:
    """`list.sortBy(e, key)`: the list is named, its keys are listed, and it is sorted by them."""
    assert call.target is not None  # noqa: S101 - as in `_fold`
    sorted_list = Ident(_SORTED, call.offset)
    keys = expanded(Call("map", Ident(_SORTED, call.offset), list(call.args), call.offset))
    result = Call("@sortByAssociatedKeys", sorted_list, [keys], call.offset)
    return _bound(Ident(_SORTED, call.offset), "", call.target, result, call.offset)


_SORTED: Final = "@sorted"
_MACROS: Final[dict[tuple[str, int, bool], Expander]] = {
    ("has", 1, False): _has,
    ("all", 2, True): _all,
    ("all", 3, True): _all,
    ("exists", 2, True): _exists,
    ("exists", 3, True): _exists,
    ("exists_one", 2, True): _exists_one,
    ("exists_one", 3, True): _exists_one,
    ("existsOne", 2, True): _exists_one,
    ("existsOne", 3, True): _exists_one,
    ("map", 2, True): _map,
    ("map", 3, True): _map,
    ("filter", 2, True): _filter,
    ("transformList", 3, True): _transform_list,
    ("transformList", 4, True): _transform_list,
    ("transformMap", 3, True): _transform_map,
    ("transformMap", 4, True): _transform_map,
    ("transformMapEntry", 3, True): _transform_map_entry,
    ("transformMapEntry", 4, True): _transform_map_entry,
    ("sortBy", 2, True): _sort_by,
    ("bind", 3, True): _bind,
    ("optMap", 2, True): _opt_map,
    ("optFlatMap", 2, True): _opt_flat_map,
}

"""Whether an expression makes sense, and of which type it is; writes types and overloads into the tree.

What is not known before the evaluation is `dyn`, and agrees with everything. All problems of an expression
are collected, in cel-go's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.api.cel import nodes
from ondol.api.cel import types as t
from ondol.api.cel.errors import Issue, Refused
from ondol.api.cel.functions import Function, Overload, Registry
from ondol.api.cel.nodes import Call, Comprehension, Ident, ListOf, Literal, MapOf, Node, Select, Struct
from ondol.api.cel.parser import qualified
from ondol.api.cel.types import Type
from ondol.api.cel.values import Uint

NamedType = Callable[[str], Type | None]
"""From the name of a type to the type."""

_LITERALS: Final[dict[type, Type]] = {
    type(None): t.NULL,
    bool: t.BOOL,
    int: t.INT,
    Uint: t.UINT,
    float: t.DOUBLE,
    str: t.STRING,
    bytes: t.BYTES,
}
_SCALARS: Final = frozenset(("bool", "int", "uint", "double", "string", "bytes"))
_SELECT_OPTIONAL: Final = Overload("select_optional_field", (t.DYN, t.STRING), t.DYN, lambda *_: None)


def check(
    source: str,
    root: Node,
    *,
    variables: Mapping[str, Type],
    named_type: NamedType,
    functions: Registry,
) -> list[Node]:
    """All nodes of the tree, with their types; `Refused` with everything that is wrong."""
    checker = _Checker(variables, named_type, functions)
    checker.check(root)
    if checker.issues:
        raise Refused(source, checker.issues)
    checker.settle()
    return checker.seen


class _Checker:
    def __init__(self, variables: Mapping[str, Type], named_type: NamedType, functions: Registry) -> None:
        self._variables = variables
        self._named_type = named_type
        self._functions = functions
        self._unify = t.Unifier()
        self._scopes: list[dict[str, Type]] = []
        self.seen: list[Node] = []
        self.issues: list[Issue] = []

    def check(self, node: Node) -> Type:
        """The type of a node, which is written into it."""
        self.seen.append(node)
        type_ = self._KINDS[type(node)](self, node)
        node.type = type_
        return type_

    def settle(self) -> None:
        """Give every node its final type; what is still open becomes dyn."""
        for node in self.seen:
            node.type = self._unify.resolved(node.type, final=True)

    def _issue(self, offset: int, message: str) -> Type:
        self.issues.append(Issue(offset, message))
        return t.ERROR

    def _undeclared(self, offset: int, name: str) -> Type:
        return self._issue(offset, f"undeclared reference to '{name}' (in container '')")

    def _mismatch(self, offset: int, expected: Type, actual: Type) -> Type:
        message = f"expected type '{self._shown(expected)}' but found '{self._shown(actual)}'"
        return self._issue(offset, message)

    def _shown(self, type_: Type) -> str:
        return t.formatted(self._unify.resolved(type_))

    def _declared(self, name: str) -> Type | None:
        """The type of a variable; None for a name that is none."""
        if not name.startswith("."):
            for scope in reversed(self._scopes):
                if name in scope:
                    return scope[name]
        return self._variables.get(name.removeprefix("."))

    def _literal(self, node: Literal) -> Type:
        return _LITERALS[type(node.value)]

    def _ident(self, node: Ident) -> Type:
        declared = self._declared(node.name)
        if declared is not None:
            return declared
        return self._named(node) or self._undeclared(node.offset, node.name.removeprefix("."))

    def _named(self, node: Ident) -> Type | None:
        """The type of a name that is a type itself; None for any other."""
        named = self._named_type(node.name.removeprefix("."))
        if named is None:
            return None
        node.constant = named
        return t.type_of(named)

    def _select(self, node: Select) -> Type:
        name = "" if node.test_only else qualified(node)
        if name and not self._is_local(name):
            whole = Ident(name, node.offset)
            declared = self._variables.get(name) or self._named(whole)
            if declared is not None:
                node.operand, node.dotted, whole.type = whole, True, declared
                return declared
        selected = self._field(node, node.operand, node.name)
        return t.BOOL if node.test_only else selected

    def _is_local(self, name: str) -> bool:
        """Whether a dotted name begins with a variable of a macro."""
        first = name.partition(".")[0]
        return any(first in scope for scope in self._scopes)

    def _field(self, node: Node, operand: Node, name: str, *, optional: bool = False) -> Type:
        of_operand = self._unify.resolved(self.check(operand))
        target = t.unwrapped(of_operand)
        if target.kind == "map":
            result = target.params[1]
        elif target.kind == "object" and target.fields is not None:
            field = t.field_of(target, name)
            if field is None:
                return self._issue(node.offset, f"undefined field '{name}'")
            result = field.type
        elif target.kind == "param":
            self._unify.assignable((t.DYN,), (target,))
            result = t.DYN
        else:
            if target.kind not in ("dyn", "error"):
                message = f"type '{self._shown(target)}' does not support field selection"
                self._issue(node.offset, message)
            result = t.DYN
        wraps = optional or t.is_optional(of_operand)
        return t.optional_of(result) if wraps and not t.is_optional(result) else result

    def _call(self, node: Call) -> Type:
        if node.function == nodes.OPTIONAL_SELECT:
            name = node.args[1]
            node.overloads = (_SELECT_OPTIONAL,)
            self.check(name)
            literal = name.value if isinstance(name, Literal) else ""
            return self._field(node, node.args[0], str(literal), optional=True)
        for arg in node.args:
            self.check(arg)
        if node.target is None:
            return self._resolved(node, self._functions.get(node.function.removeprefix(".")))
        prefix = qualified(node.target)
        namespaced = self._functions.get(f"{prefix}.{node.function}") if prefix else None
        if namespaced is not None and not self._is_local(prefix):
            node.target, node.function = None, namespaced.name
            return self._resolved(node, namespaced)
        self.check(node.target)
        return self._resolved(node, self._functions.get(node.function))

    def _resolved(self, node: Call, function: Function | None) -> Type:
        """The type a call has by the first of its overloads that fits; dyn where several do and differ."""
        if function is None:
            return self._undeclared(node.offset, node.function)
        member = node.target is not None
        args = tuple(arg.type for arg in ([node.target, *node.args] if node.target else node.args))
        fitting: list[Overload] = []
        result: Type | None = None
        for candidate in function.overloads:
            if candidate.member != member or len(candidate.args) != len(args):
                continue
            returned = self._fit(candidate, args)
            if returned is None:
                continue
            fitting.append(candidate)
            if result is None:
                result = returned
            elif result.kind != "dyn" and returned != result:
                result = t.DYN
        node.overloads = tuple(fitting)
        if result is not None:
            # What is added to a list without an order makes a list without an order.
            return args[0] if node.function == "_+_" and args[0].list_type else result
        return self._no_overload(node, function.name, args)

    def _fit(self, candidate: Overload, args: tuple[Type, ...]) -> Type | None:
        """The result of an overload for arguments of these types; None if it is not for them."""
        for declared_type, arg in zip(candidate.args, args, strict=True):
            if arg.kind in _SCALARS and declared_type.kind in _SCALARS and arg.kind != declared_type.kind:
                return None  # the usual end, without a look at type parameters
        if not candidate.generic:
            return candidate.result if self._unify.assignable(args, candidate.args) else None
        *declared, returned = self._unify.instance((*candidate.args, candidate.result))
        if not self._unify.assignable(args, tuple(declared)):
            return None
        return self._unify.resolved(returned)

    def _no_overload(self, node: Call, name: str, args: tuple[Type, ...]) -> Type:
        shown = [t.formatted(self._unify.resolved(arg, final=True)) for arg in args]
        signature = f"{shown[0]}.({', '.join(shown[1:])})" if node.target else f"({', '.join(shown)})"
        message = f"found no matching overload for '{name}' applied to '{signature}'"
        return self._issue(node.offset, message)

    def _joined(self, before: Type | None, type_: Type) -> Type:
        """The common type of elements; those of a literal are held to one type later."""
        if before is None:
            return type_
        if self._unify.assignable((before,), (type_,)):
            return t.most_general(before, type_)
        return t.DYN

    def _present(self, node: Node, type_: Type) -> Type:
        """What an element has that may be absent."""
        resolved = self._unify.resolved(type_)
        if not t.is_optional(resolved) and resolved.kind != "dyn":
            return self._mismatch(node.offset, t.optional_of(resolved), resolved)
        return t.unwrapped(resolved)

    def _list(self, node: ListOf) -> Type:
        element: Type | None = None
        for index, each in enumerate(node.elements):
            type_ = self.check(each)
            if index in node.optional:
                type_ = self._present(each, type_)
            element = self._joined(element, type_)
        return t.list_of(element if element is not None else self._unify.fresh())

    def _map(self, node: MapOf) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            key = self._joined(key, self.check(entry.key))
            type_ = self.check(entry.value)
            if entry.optional:
                type_ = self._present(entry.value, type_)
            value = self._joined(value, type_)
        if key is None or value is None:
            return t.map_of(self._unify.fresh(), self._unify.fresh())
        return t.map_of(key, value)

    def _struct(self, node: Struct) -> Type:
        struct = self._named_type(node.name.removeprefix("."))
        if struct is None:
            return self._undeclared(node.offset, node.name)
        if struct.kind != "object":
            return self._issue(node.offset, f"'{node.name}' is not a message type")
        for field in node.fields:
            type_ = self.check(field.value)
            declared = t.field_of(struct, field.name)
            if declared is None:
                self._issue(field.offset, f"undefined field '{field.name}'")
                continue
            if field.optional:
                type_ = self._present(field.value, type_)
            if not self._unify.assignable((declared.type,), (type_,)):
                message = (
                    f"expected type of field '{field.name}' is '{self._shown(declared.type)}'"
                    f" but provided type is '{self._shown(type_)}'"
                )
                self._issue(field.offset, message)
        return struct

    def _comprehension(self, node: Comprehension) -> Type:
        over = self._unify.resolved(self.check(node.range))
        accu = self.check(node.init)
        self._scopes.append({node.accu: accu})
        self._scopes.append(self._iterated(node, over))
        if self.check(node.condition).kind != "error":
            self._assert(node.condition, t.BOOL)
        self.check(node.step)
        self._assert(node.step, accu)
        self._scopes.pop()
        result = self.check(node.result)
        self._scopes.pop()
        return self._unify.resolved(result)

    def _iterated(self, node: Comprehension, over: Type) -> dict[str, Type]:
        """The types of the variables of one round."""
        first = second = t.DYN
        if over.kind == "list":
            first, second = (t.INT, over.params[0]) if node.var2 else (over.params[0], t.DYN)
        elif over.kind == "map":
            first, second = over.params
        elif over.kind in ("dyn", "error", "param"):
            self._unify.assignable((t.DYN,), (over,))
        else:
            message = (
                f"expression of type '{self._shown(over)}' cannot be range of a comprehension"
                " (must be list, map, or dynamic)"
            )
            first = second = self._issue(node.range.offset, message)
        return {node.var: first, node.var2: second} if node.var2 else {node.var: first}

    def _assert(self, node: Node, type_: Type) -> None:
        if not self._unify.assignable((type_,), (node.type,)):
            self._mismatch(node.offset, type_, node.type)

    _KINDS: Final[dict[type, Callable[[Any, Any], Type]]] = {
        Literal: _literal,
        Ident: _ident,
        Select: _select,
        Call: _call,
        ListOf: _list,
        MapOf: _map,
        Struct: _struct,
        Comprehension: _comprehension,
    }

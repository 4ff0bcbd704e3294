"""Reads tokens into a tree, by precedence. Length and depth are bounded: any user may write a filter."""

from __future__ import annotations

from typing import Final

from ondol.eventing.cesql.errors import Fault, ParseError
from ondol.eventing.cesql.lexer import Kind, Token, tokens
from ondol.eventing.cesql.syntax import (
    Arithmetic,
    Attribute,
    Call,
    Comparison,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negative,
    Node,
    Not,
)
from ondol.eventing.cesql.values import INTEGER_MAX, INTEGER_MIN, integer

LENGTH_MAX: Final = 65_536
"""In characters."""
DEPTH_MAX: Final = 100
"""How many operators may stand inside each other; a chain of AND, OR and XOR counts once."""

_LOGIC, _COMPARISON, _SUM, _PRODUCT, _MEMBERSHIP, _UNARY = range(1, 7)
_POWERS: Final = {
    **dict.fromkeys(("AND", "OR", "XOR"), _LOGIC),
    **dict.fromkeys(("=", "!=", "<>", "<", "<=", ">", ">="), _COMPARISON),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "%"), _PRODUCT),
    **dict.fromkeys(("LIKE", "IN", "NOT"), _MEMBERSHIP),
}
_SIGNS: Final = frozenset({"+", "-"})
_Part = tuple[Node, int]
"""A node, and how deep it is."""


def parse(text: str) -> Node:
    """The tree of an expression; `ParseError` with the position if it is none."""
    if len(text) > LENGTH_MAX:
        raise ParseError(f"expression is longer than {LENGTH_MAX} characters", LENGTH_MAX)
    return _Parser(text).whole()


class _Parser:
    """Stands at one token; each method reads what it is named after and stops behind it."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))
        self._index = 0

    def whole(self) -> Node:
        node, _ = self._expression(_LOGIC, 0)
        if self._token.kind is not Kind.END:
            raise self._unexpected()
        return node

    @property
    def _token(self) -> Token:
        return self._tokens[self._index]

    def _expression(self, power: int, nesting: int) -> _Part:
        """As far as operators bind at least as strongly as `power`."""
        left, depth = self._operand(nesting)
        while (strength := self._strength()) >= power:
            if strength == _LOGIC:
                left, depth = self._chain(left, depth, nesting)
            elif strength == _MEMBERSHIP:
                left, depth = self._membership(left, depth, nesting)
            else:
                operator = self._take().text
                right, right_depth = self._expression(strength + 1, self._deeper(nesting))
                left, depth = _binary(operator, strength, left, right), max(depth, right_depth) + 1
            self._bound(depth)
        return left, depth

    def _strength(self) -> int:
        token = self._token
        if token.kind not in {Kind.OPERATOR, Kind.KEYWORD}:
            return 0
        return _POWERS.get(token.text, 0)

    def _chain(self, first: Node, depth: int, nesting: int) -> _Part:
        operators: list[str] = []
        operands = [first]
        while self._strength() == _LOGIC:
            operators.append(self._take().text)
            operand, operand_depth = self._expression(_LOGIC + 1, self._deeper(nesting))
            operands.append(operand)
            depth = max(depth, operand_depth)
        return Logic(tuple(operators), tuple(operands)), depth + 1

    def _membership(self, operand: Node, depth: int, nesting: int) -> _Part:
        negated = self._take_if("NOT")
        if self._take_if("LIKE"):
            if self._token.kind is not Kind.STRING:
                raise self._unexpected("LIKE takes a pattern in quotes")
            return Like(operand, self._take().text, negated), depth + 1
        if not self._take_if("IN"):
            raise self._unexpected("LIKE or IN must follow NOT here")
        self._expect("(")
        elements, elements_depth = self._list(nesting)
        return In(operand, elements, negated), max(depth, elements_depth) + 1

    def _list(self, nesting: int) -> tuple[tuple[Node, ...], int]:
        """At least one expression, and the closing bracket."""
        nodes, deepest = [], 0
        while True:
            node, depth = self._expression(_LOGIC, self._deeper(nesting))
            nodes.append(node)
            deepest = max(deepest, depth)
            if not self._take_if(","):
                break
        self._expect(")")
        return tuple(nodes), deepest

    def _operand(self, nesting: int) -> _Part:
        token = self._take()
        match token.kind, token.text:
            case Kind.INTEGER, digits:
                return Literal(_integer(digits, token.position)), 1
            case Kind.STRING, text:
                return Literal(text), 1
            case Kind.KEYWORD, ("TRUE" | "FALSE") as word:
                return Literal(word == "TRUE"), 1
            case Kind.KEYWORD, "NOT":
                operand, depth = self._expression(_UNARY, self._deeper(nesting))
                return Not(operand), depth + 1
            case Kind.KEYWORD, "EXISTS":
                return Exists(self._attribute()), 1
            case Kind.OPERATOR, ("+" | "-") as sign:
                return self._signed(sign, token.position, nesting)
            case Kind.OPERATOR, "(":
                node, depth = self._expression(_LOGIC, self._deeper(nesting))
                self._expect(")")
                return node, depth
            case ((Kind.WORD | Kind.FUNCTION), name):
                return self._named(name, token, nesting)
        self._index -= token.kind is not Kind.END
        raise self._unexpected()

    def _named(self, name: str, token: Token, nesting: int) -> _Part:
        is_function = token.kind is Kind.FUNCTION or name.isalpha()
        if is_function and self._take_if("("):
            if self._take_if(")"):
                return Call(name.upper(), ()), 1
            arguments, depth = self._list(nesting)
            return Call(name.upper(), arguments), depth + 1
        if token.kind is Kind.FUNCTION:
            raise self._unexpected(f"function {name} needs its arguments in brackets")
        return Attribute(name.lower()), 1

    def _attribute(self) -> str:
        if self._token.kind is not Kind.WORD:
            raise self._unexpected("EXISTS takes the name of an attribute")
        return self._take().text.lower()

    def _signed(self, sign: str, position: int, nesting: int) -> _Part:
        """A number with its sign, which alone may be the least of all; else minus as an operator."""
        token = self._token
        if token.kind is Kind.INTEGER and token.position == position + 1:
            self._take()
            return Literal(_integer(sign + token.text, position)), 1
        if sign == "+":
            raise self._unexpected("digits must follow the sign")
        operand, depth = self._expression(_UNARY, self._deeper(nesting))
        return Negative(operand), depth + 1

    def _take(self) -> Token:
        token = self._token
        self._index += token.kind is not Kind.END
        return token

    def _take_if(self, text: str) -> bool:
        token = self._token
        is_it = token.kind in {Kind.OPERATOR, Kind.KEYWORD} and token.text == text
        self._index += is_it
        return is_it

    def _expect(self, text: str) -> None:
        if not self._take_if(text):
            raise self._unexpected(f"{text!r} is missing")

    def _deeper(self, nesting: int) -> int:
        self._bound(nesting + 1)
        return nesting + 1

    def _bound(self, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise ParseError(f"expression is nested deeper than {DEPTH_MAX}", self._token.position)

    def _unexpected(self, expectation: str = "") -> ParseError:
        token = self._token
        text = "unexpected end" if token.kind is Kind.END else f"unexpected {token.text!r}"
        return ParseError(f"{expectation}: {text}" if expectation else text, token.position)


def _binary(operator: str, strength: int, left: Node, right: Node) -> Node:
    if strength == _COMPARISON:
        return Comparison("!=" if operator == "<>" else operator, left, right)
    return Arithmetic(operator, left, right)


def _integer(text: str, position: int) -> int:
    """As an attribute's value is read: zeros before it, though they be thousands, are no fault."""
    try:
        return integer(text)
    except Fault as fault:
        raise ParseError(f"integer is not between {INTEGER_MIN} and {INTEGER_MAX}", position) from fault

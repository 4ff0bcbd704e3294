"""From tokens to a syntax tree, by precedence climbing.

Bounds: SOURCE_MAX characters, and DEPTH_MAX levels of nesting, since every later step recurses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from ondol.api import cel_words
from ondol.api.cel import lexer, literals, macros, nodes
from ondol.api.cel.errors import Issue, Refused
from ondol.api.cel.lexer import Token
from ondol.api.cel.nodes import Call, Entry, Field, Ident, ListOf, Literal, MapOf, Node, Select, Struct

SOURCE_MAX: Final = 100_000
DEPTH_MAX: Final = 150
_LEVELS: Final = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("<", "<=", ">=", ">", "==", "!=", "in"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}
_RESERVED: Final = cel_words.RESERVED - {"true", "false", "null", "in"}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_OPERANDS: Final = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES,"
    " IDENTIFIER}"
)


def parse(source: str) -> Node:
    """The tree of an expression; `Refused` if it is not one."""
    if len(source) > SOURCE_MAX:
        message = f"expression code point size exceeds limit: size: {len(source)}, limit {SOURCE_MAX}"
        raise Refused(source[:100], [Issue(0, message)])
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = lexer.tokens(source)
        self._position = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._token.kind != lexer.END:
            self._fail(f"Syntax error: extraneous input '{self._token.text}' expecting <EOF>")
        return node

    @property
    def _token(self) -> Token:
        return self._tokens[self._position]

    def _fail(self, message: str, offset: int | None = None) -> NoReturn:
        raise Refused(self._source, [Issue(self._token.offset if offset is None else offset, message)])

    def _advance(self) -> Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _accept(self, symbol: str) -> Token | None:
        token = self._tokens[self._position]
        if token.text == symbol and token.kind == lexer.SYMBOL:
            self._position += 1
            return token
        return None

    def _expect(self, symbol: str) -> Token:
        token = self._accept(symbol)
        if token is None:
            self._fail(f"Syntax error: mismatched input '{self._token.text}' expecting '{symbol}'")
        return token

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._fail("expression recursion limit exceeded: max recursion depth exceeded")

    def _expression(self) -> Node:
        self._deeper()
        node = self._binary(1)
        question = self._accept("?")
        if question is not None:
            positive = self._binary(1)
            self._expect(":")
            negative = self._expression()
            node = Call(nodes.CONDITIONAL, None, [node, positive, negative], question.offset)
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        left = self._unary()
        before = self._depth
        while True:
            token = self._token
            of_token = _LEVELS.get(token.text, 0) if token.kind == lexer.SYMBOL else 0
            if of_token < level:
                self._depth = before
                return left
            self._deeper()  # what is chained on one level nests to the left
            if of_token <= 2:
                self._depth = before
                left = self._logic(left, token.text, of_token)
                continue
            self._position += 1
            name = nodes.IN if token.text == "in" else f"_{token.text}_"
            left = Call(name, None, [left, self._binary(of_token + 1)], token.offset)

    def _logic(self, first: Node, symbol: str, level: int) -> Node:
        """A chain of `&&` or `||` as a balanced tree, so that a long one is not deep."""
        terms, places = [first], []
        while (token := self._accept(symbol)) is not None:
            places.append(token.offset)
            terms.append(self._binary(level + 1))
        function = f"_{symbol}_"

        def tree(low: int, high: int) -> Node:
            middle = (low + high + 1) // 2
            left = terms[middle] if middle == low else tree(low, middle - 1)
            right = terms[middle + 1] if middle == high else tree(middle + 1, high)
            return Call(function, None, [left, right], places[middle])

        return tree(0, len(places) - 1)

    def _unary(self) -> Node:
        token = self._token
        if token.kind != lexer.SYMBOL or token.text not in ("!", "-"):
            return self._member()
        count = 0
        while self._accept(token.text) is not None:
            count += 1
        follows = self._token.kind
        if token.text == "-" and follows in (lexer.INT, lexer.FLOAT) and count % 2:
            return self._postfix(self._number("-", token.offset))
        operand = self._member()
        if count % 2 == 0:
            return operand
        return Call(nodes.NOT if token.text == "!" else nodes.NEGATE, None, [operand], token.offset)

    def _member(self) -> Node:
        return self._postfix(self._primary())

    def _postfix(self, node: Node) -> Node:
        before = self._depth
        while self._token.kind == lexer.SYMBOL:
            if self._token.text == ".":
                node = self._selected(node)
            elif self._token.text == "[":
                node = self._indexed(node)
            elif self._token.text == "{" and (name := _qualified(node)):
                node = self._struct(name)
            else:
                break
            self._deeper()
        self._depth = before
        return node

    def _selected(self, node: Node) -> Node:
        dot = self._expect(".")
        optional = self._accept("?")
        token = self._token
        if token.kind not in (lexer.IDENT, lexer.QUOTED_IDENT):
            self._fail(f"Syntax error: mismatched input '{token.text}' expecting IDENTIFIER")
        self._position += 1
        name = token.text.strip("`")
        if optional is not None:
            return Call(nodes.OPTIONAL_SELECT, None, [node, Literal(name, token.offset)], dot.offset)
        opening = self._accept("(") if token.kind == lexer.IDENT else None
        if opening is not None:
            return self._call(name, node, opening.offset)
        return Select(node, name, offset=dot.offset)

    def _indexed(self, node: Node) -> Node:
        bracket = self._expect("[")
        function = nodes.OPTIONAL_INDEX if self._accept("?") else nodes.INDEX
        index = self._expression()
        self._expect("]")
        return Call(function, None, [node, index], bracket.offset)

    def _call(self, name: str, target: Node | None, offset: int) -> Node:
        args: list[Node] = []
        if self._accept(")") is None:
            args.append(self._expression())
            while self._accept(","):
                args.append(self._expression())
            self._expect(")")
        try:
            return macros.expanded(Call(name, target, args, offset))
        except macros.BadMacro as wrong:
            self._fail(str(wrong), wrong.offset)

    def _primary(self) -> Node:
        token = self._token
        if token.kind == lexer.IDENT:
            self._position += 1
            return self._named(token, "")
        if token.kind != lexer.SYMBOL:
            return self._literal(token)
        if token.text in _CONSTANTS:
            self._position += 1
            return Literal(_CONSTANTS[token.text], token.offset)
        begin = self._STARTS.get(token.text)
        if begin is None:
            self._fail(f"Syntax error: mismatched input '{token.text}' expecting {_OPERANDS}")
        self._position += 1
        return begin(self, token)

    def _named(self, token: Token, dot: str) -> Node:
        if token.text in _RESERVED:
            self._fail(f"reserved identifier: {token.text}", token.offset)
        opening = self._accept("(")
        if opening is not None:
            return self._call(dot + token.text, None, opening.offset)
        return Ident(dot + token.text, token.offset)

    def _rooted(self, dot: Token) -> Node:
        """`.name`, a name that no variable of a macro hides."""
        del dot
        if self._token.kind != lexer.IDENT:
            self._fail(f"Syntax error: mismatched input '{self._token.text}' expecting IDENTIFIER")
        return self._named(self._advance(), ".")

    def _nested(self, opening: Token) -> Node:
        del opening
        node = self._expression()
        self._expect(")")
        return node

    def _list(self, opening: Token) -> Node:
        elements: list[Node] = []
        optional = set()
        while self._accept("]") is None:
            if self._accept("?"):
                optional.add(len(elements))
            elements.append(self._expression())
            if self._accept(",") is None:
                self._expect("]")
                break
        return ListOf(elements, frozenset(optional), opening.offset)

    def _map(self, opening: Token) -> Node:
        entries = []
        while self._accept("}") is None:
            optional = self._accept("?") is not None
            key = self._expression()
            self._expect(":")
            entries.append(Entry(key, self._expression(), optional))
            if self._accept(",") is None:
                self._expect("}")
                break
        return MapOf(entries, opening.offset)

    _STARTS: Final[dict[str, Callable[[_Parser, Token], Node]]] = {
        "(": _nested,
        "[": _list,
        "{": _map,
        ".": _rooted,
    }

    def _struct(self, name: str) -> Node:
        opening = self._expect("{")
        fields = []
        while self._accept("}") is None:
            optional = self._accept("?") is not None
            token = self._advance()
            if token.kind not in (lexer.IDENT, lexer.QUOTED_IDENT):
                self._fail(
                    f"Syntax error: mismatched input '{token.text}' expecting IDENTIFIER", token.offset
                )
            colon = self._expect(":")
            fields.append(Field(token.text.strip("`"), self._expression(), optional, colon.offset))
            if self._accept(",") is None:
                self._expect("}")
                break
        return Struct(name, fields, opening.offset)

    def _literal(self, token: Token) -> Node:
        if token.kind in (lexer.INT, lexer.UINT, lexer.FLOAT):
            return self._number("", token.offset)
        if token.kind not in (lexer.STRING, lexer.BYTES):
            self._fail(f"Syntax error: mismatched input '{token.text}' expecting {_OPERANDS}")
        self._position += 1
        try:
            text = token.text
            value = literals.string(text) if token.kind == lexer.STRING else literals.byte_string(text)
        except ValueError as wrong:
            self._fail(str(wrong), token.offset)
        return Literal(value, token.offset)

    def _number(self, sign: str, offset: int) -> Node:
        token = self._advance()
        try:
            if token.kind == lexer.INT:
                return Literal(literals.integer(sign + token.text), offset)
            if token.kind == lexer.FLOAT:
                return Literal(literals.double(sign + token.text), offset)
            return Literal(literals.unsigned(token.text), offset)
        except ValueError as wrong:
            self._fail(str(wrong), offset)


def _qualified(node: Node) -> str:
    """The dotted name a chain of selections spells; empty for anything else."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test_only:
        prefix = _qualified(node.operand)
        return f"{prefix}.{node.name}" if prefix else ""
    return ""


qualified = _qualified

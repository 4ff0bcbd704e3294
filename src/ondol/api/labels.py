"""Label selectors: which objects a list, a watch, a Service or a Deployment selects.

One frozen `Selector` serves both spellings: the query string (`a=b,c!=d,e in (x,y),!f`) and the
`LabelSelector` document (`matchLabels`, `matchExpressions`). Grammar, matching and messages follow
apimachinery `pkg/labels`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ondol.base import errors, names

IN: Final = "in"
NOT_IN: Final = "notin"
EQUALS: Final = "="
DOUBLE_EQUALS: Final = "=="
NOT_EQUALS: Final = "!="
EXISTS: Final = "exists"
DOES_NOT_EXIST: Final = "!"
GREATER_THAN: Final = "gt"
LESS_THAN: Final = "lt"

_BINARY: Final = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER_THAN, LESS_THAN)
_SYMBOLS: Final = {"=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER_THAN, "<": LESS_THAN}
_DOCUMENT_OPERATORS: Final = {
    "In": IN,
    "NotIn": NOT_IN,
    "Exists": EXISTS,
    "DoesNotExist": DOES_NOT_EXIST,
}
_INTEGER: Final = re.compile(r"[+-]?\d{1,19}")
_INT64_MAX: Final = 2**63
_QUALIFIED_NAME: Final = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_NOT_QUALIFIED: Final = (
    "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix "
    "and '/' (e.g. 'example.com/MyName')"
)
_TOKEN: Final = re.compile(r"[ \t\r\n]*(?:(?P<symbol>==|!=|[=!(),<>])|(?P<word>[^ \t\r\n=!(),<>]+))")


TERMS_MAX: Final = 100
"""Most terms a caller's selector may have: each object is compared with every one of them."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: a key, an operator and the values it compares with (sorted, without repeats)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return value is not None and self._names(value)
            case "!=" | "notin":
                return value is None or not self._names(value)
            case "exists":
                return value is not None
            case "!":
                return value is None
            case _:
                return self._compares(value)

    def _names(self, value: str) -> bool:
        """Whether the value is one of the sorted ones, of which there may be thousands."""
        place = bisect_left(self.values, value)
        return place < len(self.values) and self.values[place] == value

    def _compares(self, value: str | None) -> bool:
        number = _int64(value)
        bound = _int64(self.values[0])
        if number is None or bound is None:
            return False
        return number > bound if self.operator == GREATER_THAN else number < bound

    def __str__(self) -> str:
        values = ",".join(self.values)
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({values})"
            case "gt":
                return f"{self.key}>{values}"
            case "lt":
                return f"{self.key}<{values}"
            case _:
                return f"{self.key}{self.operator}{values}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; no requirement selects everything, `matches_nothing` nothing."""

    requirements: tuple[Requirement, ...] = ()
    matches_nothing: bool = False

    @property
    def is_everything(self) -> bool:
        return not self.requirements and not self.matches_nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.matches_nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    def required_value(self, key: str) -> str | None:
        """The one value a matching object must have for `key`, if the selector pins it."""
        for requirement in self.requirements:
            pins = requirement.operator in (EQUALS, DOUBLE_EQUALS, IN) and len(requirement.values) == 1
            if pins and requirement.key == key:
                return requirement.values[0]
        return None

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


_EVERYTHING: Final = Selector()
_NOTHING: Final = Selector(matches_nothing=True)


def from_map(labels: Mapping[str, str]) -> Selector:
    """Exactly these labels, as in a Service's `spec.selector`; values are taken as valid."""
    return Selector(tuple(Requirement(key, EQUALS, (labels[key],)) for key in sorted(labels)))


def from_document(document: Mapping[str, Any] | None) -> Selector:
    """A `LabelSelector`: none at all selects nothing, an empty one everything."""
    if document is None:
        return _NOTHING
    pairs: Mapping[str, str] = document.get("matchLabels") or {}
    requirements = [_requirement(key, EQUALS, (value,)) for key, value in pairs.items()]
    for expression in document.get("matchExpressions") or ():
        operator = expression.get("operator") or ""
        if operator not in _DOCUMENT_OPERATORS:
            raise errors.BadRequest(f'"{operator}" is not a valid label selector operator')
        values = expression.get("values") or ()
        requirements.append(_requirement(expression.get("key") or "", _DOCUMENT_OPERATORS[operator], values))
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def parse(text: str) -> Selector:
    """The selector written in a query string; `BadRequest` names the place that cannot be parsed."""
    if not text:
        return _EVERYTHING
    requirements = _Parser(_tokens(text)).parse()
    if len(requirements) > TERMS_MAX:
        raise errors.BadRequest(
            f"a label selector may have at most {TERMS_MAX} terms, got {len(requirements)}"
        )
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


class _Token(NamedTuple):
    kind: str
    """`word`, `end`, or the symbol or keyword itself."""
    text: str


_END: Final = _Token("end", "")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        word = match["word"]
        if word is None:
            tokens.append(_Token(match["symbol"], match["symbol"]))
        else:
            tokens.append(_Token(word if word in (IN, NOT_IN) else "word", word))
    return [*tokens, _END]


class _Parser:
    """Recursive descent over the tokens; `in` and `notin` are words wherever a value may stand."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def _peek(self) -> _Token:
        token = self._tokens[min(self._position, len(self._tokens) - 1)]
        return _Token("word", token.text) if token.kind in (IN, NOT_IN) else token

    def _take(self) -> _Token:
        token = self._peek()
        self._position += 1
        return token

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            token = self._peek()
            if token.kind == "end":
                return requirements
            if token.kind not in ("word", "!"):
                raise _unexpected(token, "!, identifier, or 'end of string'")
            try:
                requirements.append(self._one())
            except errors.BadRequest as error:
                raise errors.BadRequest(f"unable to parse requirement: {error.message}") from error
            separator = self._take()
            if separator.kind == "end":
                return requirements
            if separator.kind != ",":
                raise _unexpected(separator, "',' or 'end of string'")
            after = self._peek()
            if after.kind not in ("word", "!"):
                raise _unexpected(after, "identifier after ','")

    def _one(self) -> Requirement:
        negated = self._peek().kind == "!"
        if negated:
            self._take()
        token = self._take()
        if token.kind != "word":
            raise _unexpected(token, "identifier")
        if problems := label_key_problems(token.text):
            raise _invalid("<nil>", token.text, problems)
        if negated:
            return _requirement(token.text, DOES_NOT_EXIST, ())
        if self._peek().kind in ("end", ","):
            return _requirement(token.text, EXISTS, ())
        operator = self._operator()
        values = self._set() if operator in (IN, NOT_IN) else (self._exact(),)
        return _requirement(token.text, operator, values)

    def _operator(self) -> str:
        token = self._tokens[self._position]
        self._position += 1
        if token.kind in (IN, NOT_IN):
            return token.kind
        if token.kind in _SYMBOLS:
            return _SYMBOLS[token.kind]
        raise _unexpected(token, ", ".join(_BINARY))

    def _exact(self) -> str:
        if self._peek().kind in ("end", ","):
            return ""
        token = self._take()
        if token.kind != "word":
            raise _unexpected(token, "identifier")
        return token.text

    def _set(self) -> tuple[str, ...]:
        opening = self._take()
        if opening.kind != "(":
            raise errors.BadRequest(f"found '{opening.text}' expected: '('")
        if self._peek().kind not in ("word", ",", ")"):
            raise _unexpected(self._peek(), "',', ')' or identifier")
        values: set[str] = set()
        current = ""
        while (token := self._take()).kind != ")":
            if token.kind == ",":
                values.add(current)
                current = ""
            elif token.kind == "word" and not current:
                current = token.text
            else:
                raise _unexpected(token, "',' or ')'" if current else "',', or identifier")
        return tuple(values | {current})


def _unexpected(token: _Token, expected: str) -> errors.BadRequest:
    return errors.BadRequest(f"found '{token.text}', expected: {expected}")


def _invalid(path: str, value: str, problems: Iterable[str]) -> errors.BadRequest:
    return errors.BadRequest(f'{path}: Invalid value: "{value}": {"; ".join(problems)}')


def _requirement(key: str, operator: str, values: Sequence[str]) -> Requirement:
    if problems := label_key_problems(key):
        raise _invalid("key", key, problems)
    if operator in (IN, NOT_IN) and not values:
        raise errors.BadRequest(
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        )
    if operator in (EXISTS, DOES_NOT_EXIST) and values:
        raise errors.BadRequest(
            f"values: Invalid value: {list(values)}: values set must be empty for exists and does not exist"
        )
    for index, value in enumerate(values):
        if operator in (GREATER_THAN, LESS_THAN) and _int64(value) is None:
            problem = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise _invalid(f"values[{index}]", value, (problem,))
        if problems := label_value_problems(value):
            raise _invalid(f"values[{index}][{key}]", value, problems)
    return Requirement(key, operator, tuple(sorted(set(values))))


def label_key_problems(key: str) -> list[str]:
    """What is wrong with a label key (`[prefix/]name`), in apimachinery's words."""
    prefix, slash, name = key.rpartition("/")
    problems: list[str] = []
    if "/" in prefix:
        return [_NOT_QUALIFIED]
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif slash and not names.is_dns1123_subdomain(prefix):
        problems.append(
            "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
            "'-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
            "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append("name part must be no more than 63 bytes")
    if not _QUALIFIED_NAME.fullmatch(name):
        problems.append(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
            "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )
    return problems


def label_value_problems(value: str) -> list[str]:
    """What is wrong with a label value, in apimachinery's words."""
    problems: list[str] = []
    if len(value) > 63:
        problems.append("must be no more than 63 bytes")
    if value and not _QUALIFIED_NAME.fullmatch(value):
        problems.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
            "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        )
    return problems


def _int64(text: str | None) -> int | None:
    if text is None or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -_INT64_MAX <= number < _INT64_MAX else None

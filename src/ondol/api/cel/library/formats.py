"""Named formats: `format.dns1123Label().validate(name).hasValue()` is true for what is no label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import labels
from ondol.api.cel import types as t
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library.standard import tenth
from ondol.api.cel.library.urls import is_url
from ondol.api.cel.values import NONE, Opaque, Optional, TypeValue
from ondol.api.schema import formats
from ondol.api.validation import fields

FORMAT: Final = t.object_named("kubernetes.NamedFormat")
Problems = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Format(Opaque):
    name: str
    problems: Problems
    expression_size: int
    """Characters of a regular expression as costly as the check."""

    cel_type = TypeValue("kubernetes.NamedFormat")


def _messages(rule: Callable[[str, str], Any]) -> Problems:
    """The details of a rule's causes, without the value they quote."""

    def problems(text: str) -> list[str]:
        return [cause.message.split(": ", 2)[-1] for cause in rule("", text)]

    return problems


def _prefix(problems: Problems) -> Problems:
    """Of what a generated name begins with: a dash may end it."""
    return lambda text: problems(f"{text[:-1]}a" if text.endswith("-") else text)


def _format(name: str, message: str) -> Problems:
    check = formats.check(name)
    assert check is not None  # noqa: S101 - named in the table of formats
    return lambda text: [] if check(text) else [message]


_LABEL: Final = _messages(fields.label)
_SUBDOMAIN: Final = _messages(fields.subdomain)
_LABEL_1035: Final = _messages(fields.label_1035)
_DATE_TIME_SIZE: Final = 85
NAMED: Final[dict[str, Format]] = {
    name: Format(title, problems, size)
    for name, title, problems, size in (
        ("dns1123Label", "DNS1123Label", _LABEL, 30),
        ("dns1123Subdomain", "DNS1123Subdomain", _SUBDOMAIN, 60),
        ("dns1035Label", "DNS1035Label", _LABEL_1035, 30),
        ("qualifiedName", "QualifiedName", labels.label_key_problems, 60),
        ("dns1123LabelPrefix", "DNS1123LabelPrefix", _prefix(_LABEL), 30),
        ("dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", _prefix(_SUBDOMAIN), 60),
        ("dns1035LabelPrefix", "DNS1035LabelPrefix", _prefix(_LABEL_1035), 30),
        ("labelValue", "LabelValue", labels.label_value_problems, 40),
        ("uri", "URI", lambda text: [] if is_url(text) else ["invalid URI for request"], 2000),
        ("uuid", "uuid", _format("uuid", "does not match the UUID format"), 70),
        ("byte", "byte", _format("byte", "invalid base64"), 84),
        ("date", "date", _format("date", "invalid date"), _DATE_TIME_SIZE),
        ("datetime", "datetime", _format("datetime", "invalid datetime"), _DATE_TIME_SIZE),
    )
}


def _validate(checked: Format, text: str) -> Optional:
    problems = checked.problems(text)
    return Optional(problems) if problems else NONE


def _cost(args: Sequence[Any]) -> int:
    size: int = args[0].expression_size
    return tenth(len(args[1]) + 1) * ((size + 3) // 4)


def _named(name: str) -> Optional:
    return Optional(NAMED[name]) if name in NAMED else NONE


def _constant(name: str) -> Function:
    value = NAMED[name]
    return function(f"format.{name}", overload(f"format.{name}", (), FORMAT, lambda: value))


FUNCTIONS: Final[list[Function]] = [
    function(
        "validate",
        method(
            "format-validate",
            (FORMAT, t.STRING),
            t.optional_of(t.list_of(t.STRING)),
            _validate,
            _cost,
        ),
    ),
    function("format.named", overload("format-named", (t.STRING,), t.optional_of(FORMAT), _named)),
    *map(_constant, NAMED),
]
TYPES: Final = {"kubernetes.NamedFormat": FORMAT}

"""Keys that stand twice in a JSON body: found without reading the body a second time."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.apiserver import bodies

_TEXT = st.text(alphabet='a":\\/{}[], é\n\t', max_size=4)
_SPACE = st.sampled_from(["", " ", "\n", "\t "])


@st.composite
def _json(draw: st.DrawFn, depth: int = 2) -> str:
    """JSON as anybody may write it: with spaces, escapes and members that stand twice."""
    kind = draw(st.sampled_from(["text", "number", "list", "object", "object"] if depth else ["text"]))
    if kind == "text":
        return json.dumps(draw(_TEXT), ensure_ascii=draw(st.booleans()))
    if kind == "number":
        return draw(st.sampled_from(["0", "-1", "1.0", "1e3", "true", "null"]))
    size = draw(st.integers(0, 3))
    space = draw(_SPACE)
    if kind == "list":
        items = [draw(_json(depth - 1)) for _ in range(size)]
        return f"[{space}{f'{space},'.join(items)}]"
    members = []
    for _ in range(size):
        key = json.dumps(draw(_TEXT), ensure_ascii=draw(st.booleans()))
        if "\\\\" not in key and draw(st.booleans()):
            key = key.replace('\\"', "\\u0022")
        members.append(f"{key}{space}:{space}{draw(_json(depth - 1))}")
    return f"{{{f'{space},{space}'.join(members)}{space}}}"


@given(_json())
def test_whatever_is_plain_is_true(text: str) -> None:
    """A body that is let pass at one look has no key twice, however it is spelled."""
    body = text.encode()
    if bodies.repeats_nothing(body, msgspec.json.decode(body)):
        assert bodies.strict_findings(body, frozenset()) == []


@pytest.mark.parametrize(
    "value",
    [{"a": {"b": 1}, "c": {"b": 2}}, {"a": '{"b":1,"b":2}'}, [{"a": 1}, {"a": 1}], {"ä": "☃", "n": 1.5}],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_usual_bodies_are_plain(value: Any, indent: int | None) -> None:
    """As clients write them, in one line or in many: none of them is read a second time."""
    body = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert bodies.repeats_nothing(body, value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a" :1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":"\\u0022:","b":1,"b":2}',
        b'[{"a":1,"a":2}]',
    ],
)
def test_a_key_that_stands_twice_is_found(body: bytes) -> None:
    """Also where another spelling hides it."""
    assert not bodies.repeats_nothing(body, msgspec.json.decode(body))
    assert bodies.strict_findings(body, frozenset())

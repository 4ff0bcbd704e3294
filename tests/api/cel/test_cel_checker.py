"""What makes no sense is refused before it is evaluated, in cel-go's words."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import cel

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "name": {"type": "string"},
        "on": {"type": "boolean"},
        "since": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "wait": {"type": "string", "format": "duration"},
        "blob": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": True},
        "anything": {"x-kubernetes-preserve-unknown-fields": True},
        "names": {"type": "array", "items": {"type": "string"}},
        "waits": {"type": "array", "items": {"type": "string", "format": "duration"}},
        "ratios": {"type": "array", "items": {"type": "number"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "items": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        "foo-bar": {"type": "integer"},
        "a.b/c__d": {"type": "integer"},
        "namespace": {"type": "string"},
        "with space": {"type": "integer"},
        "0digit": {"type": "integer"},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["p"],
            "items": {"type": "object", "properties": {"p": {"type": "integer"}, "n": {"type": "string"}}},
        },
        "maybe": {"type": "string", "nullable": True},
        "inner": {"type": "object", "properties": {"wait": {"type": "string", "format": "duration"}}},
        "other": {"type": "object", "properties": {"wait": {"type": "string", "format": "duration"}}},
        "whole": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {}},
    },
}
DOCUMENT: dict[str, Any] = {
    "count": 3,
    "ratio": 2,
    "name": "x",
    "on": True,
    "since": "2020-01-02T03:04:05Z",
    "day": "2020-01-02",
    "wait": "90m",
    "blob": "QUI=",
    "port": 80,
    "anything": {"deep": [1]},
    "names": ["a", "b"],
    "waits": ["1h", "2m"],
    "ratios": [1, 2.5],
    "labels": {"app": "web", "null": "x"},
    "items": [{"id": 1}, {"id": 2}],
    "foo-bar": 7,
    "a.b/c__d": 8,
    "namespace": "ns",
    "set": ["a", "b", "c"],
    "ports": [{"p": 1, "n": "a"}, {"p": 2, "n": "b"}],
    "maybe": None,
    "inner": {"wait": "60m"},
    "other": {"wait": "1h"},
    "whole": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n"}},
}

REFUSED = [
    ("x", "1:1: undeclared reference to 'x' (in container '')"),
    ("f(1)", "1:2: undeclared reference to 'f' (in container '')"),
    ("self.nope", "1:5: undefined field 'nope'"),
    ("has(self.nope)", "1:4: undefined field 'nope'"),
    ("self.anything", "1:5: undefined field 'anything'"),
    ("self.items[0].nope == 1", "1:14: undefined field 'nope'"),
    ("self.count.x", "1:11: type 'int' does not support field selection"),
    ("self.count + self.name", "1:12: found no matching overload for '_+_' applied to '(int, string)'"),
    ("self.count == self.name", "1:12: found no matching overload for '_==_' applied to '(int, string)'"),
    ("self.name.size(1)", "1:15: found no matching overload for 'size' applied to 'string.(int)'"),
    ("self.on && self.count", "1:9: found no matching overload for '_&&_' applied to '(bool, int)'"),
    ("self.on ? 1 : 'a'", "1:9: found no matching overload for '_?_:_' applied to '(bool, int, string)'"),
    ("self.names.all(n, n > 1)", "1:21: found no matching overload for '_>_' applied to '(string, int)'"),
    ("1 in self.names", "1:3: found no matching overload for '@in' applied to '(int, list(string))'"),
    ("self.labels[1]", "1:12: found no matching overload for '_[_]' applied to '(map(string, string), int)'"),
    (
        "self.count.all(x, true)",
        "1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
    ),
    ("[1, 'a']", "1:5: expected type 'int' but found 'string'"),
    ("{'a': 1, 'b': 'c'}", "1:15: expected type 'int' but found 'string'"),
    ("[?1]", "1:3: expected type 'optional_type(int)' but found 'int'"),
    ("Thing{a: 1}", "1:6: undeclared reference to 'Thing' (in container '')"),
    ("string{a: 1}", "1:7: 'string' is not a message type"),
    ("duration('1x')", "1:10: invalid duration argument"),
    ("timestamp('yesterday')", "1:11: invalid timestamp argument"),
    ("timestamp(-62135596801)", "1:11: invalid timestamp argument"),
    ("self.name.matches('(')", "1:19: invalid matches argument"),
    ("null + 1", "1:6: found no matching overload for '_+_' applied to '(null, int)'"),
]


def compiled(source: str) -> cel.Program:
    described = cel.of_schema(SCHEMA)
    assert described is not None
    return cel.compile(source, cel.rule(described))


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_what_makes_no_sense(source: str, message: str) -> None:
    """The first line says where and why."""
    with pytest.raises(cel.Refused) as refusal:
        compiled(source)
    assert str(refusal.value).split("\n")[0] == f"ERROR: <input>:{message}"


def test_all_problems_are_told_in_order() -> None:
    """Not the first alone."""
    with pytest.raises(cel.Refused) as refusal:
        compiled("y + self.nope > 1 && x")
    assert [issue.message for issue in refusal.value.issues] == [
        "undeclared reference to 'y' (in container '')",
        "undefined field 'nope'",
        "undeclared reference to 'x' (in container '')",
    ]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("self.count", "int"),
        ("self.ratio", "double"),
        ("self.on", "bool"),
        ("self.since", "google.protobuf.Timestamp"),
        ("self.wait", "google.protobuf.Duration"),
        ("self.blob", "bytes"),
        ("self.port", "dyn"),
        ("self.names", "list(string)"),
        ("self.labels", "map(string, string)"),
        ("self.items.map(i, i.id)", "list(int)"),
        ("self.items.filter(i, i.id > 1)[0].id", "int"),
        ("self.on ? self.count : size(self.name)", "int"),
        ("self.?name", "optional_type(string)"),
        ("self.?name.orValue('x')", "string"),
        ("self.labels[?'a']", "optional_type(string)"),
        ("{'a': [self.count]}", "map(string, list(int))"),
        ("[]", "list(dyn)"),
        ("type(self.count)", "type(int)"),
        ("self.names.transformMap(i, n, {n: i})", "map(int, map(string, int))"),
        ("self.names.map(n, n.size()).max()", "int"),
        ("dyn(self.count)", "dyn"),
    ],
)
def test_the_type_of_an_expression(source: str, kind: str) -> None:
    """Follows from the schema and from the functions called."""
    assert str(compiled(source).result) == kind


@pytest.mark.parametrize(
    "source",
    [
        # JSON is read as the schema says
        (
            "self.ratio == 2.0 && type(self.ratio) == double && self.ratios.sum() == 3.5"
            " && self.ratios[0] / 2.0 == 0.5"
        ),
        "self.since.getFullYear() == 2020 && self.day == timestamp('2020-01-02T00:00:00Z')",
        (
            "self.wait == duration('1h30m') && self.waits.all(w, w > duration('1m'))"
            " && duration('1h') in self.waits"
        ),
        "self.waits.max() == duration('1h') && self.waits == [duration('60m'), duration('120s')]",
        "self.blob == b'AB' && size(self.blob) == 2",
        "type(self.port) == int ? self.port == 80 : self.port == '80'",
        # names that are no identifiers are escaped, and reserved ones may be written as they are
        "self.foo__dash__bar == 7 && self.a__dot__b__slash__c__underscores__d == 8",
        "self.__namespace__ == 'ns' && self.namespace == 'ns' && has(self.namespace)",
        # lists that are sets or maps have no order
        (
            "self.set == ['c', 'b', 'a'] && self.set != ['a', 'b']"
            " && self.set + ['d', 'a'] == ['a', 'b', 'c', 'd']"
        ),
        "self.ports == [self.ports[1], self.ports[0]]",
        "(self.ports + [self.ports[0]]).size() == 2 && self.ports + [self.ports[1]] == self.ports",
        "self.names != ['b', 'a']",
        # null is as good as absent in an object
        "!has(self.maybe)",
        "self.whole.kind == 'Pod' && self.whole.metadata.name == 'n'",
        "self.labels.app == 'web' && has(self.labels.app) && !has(self.labels.tier) && 'app' in self.labels",
        "self.items.exists(i, i.id == 2) && self.items.map(i, i.id) == [1, 2]",
        "self.labels.all(k, v, v != '') && self.labels.exists(k, k == 'app')",
    ],
)
def test_documents_are_read_by_their_schema(source: str) -> None:
    """Each of these holds of the document above."""
    outcome = compiled(source).evaluate({"self": DOCUMENT, "oldSelf": DOCUMENT})
    assert (outcome.value, outcome.error) == (True, None)


def test_objects_with_readable_fields_are_equal_by_meaning() -> None:
    """An hour is an hour however it is spelled, inside of an object too."""
    wait = {"wait": {"type": "string", "format": "duration"}}
    described = cel.of_schema({"type": "object", "properties": wait})
    assert described is not None
    program = cel.compile("self == oldSelf", cel.rule(described))
    assert program.evaluate({"self": {"wait": "60m"}, "oldSelf": {"wait": "1h"}}).value is True
    assert program.evaluate({"self": {"wait": "61m"}, "oldSelf": {"wait": "1h"}}).value is False
    assert program.evaluate({"self": {}, "oldSelf": {"wait": "1h"}}).value is False


def test_what_no_schema_describes_is_not_seen() -> None:
    """A list of such values is not, either."""
    unknown = {"x-kubernetes-preserve-unknown-fields": True}
    assert cel.of_schema(unknown) is None
    assert cel.of_schema({"type": "array", "items": unknown}) is None
    assert cel.of_schema({"type": "object", "additionalProperties": unknown}) is None

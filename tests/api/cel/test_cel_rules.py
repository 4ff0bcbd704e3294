"""Rules of custom resources: which definitions are accepted, and what objects are held to."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.cel.crd import field_paths
from ondol.api.schema import rules as schema_rules
from ondol.api.schema.structural import Structural

ROOT = "spec.validation.openAPIV3Schema"
SPEC = f"{ROOT}.properties[spec]"
OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}},
}


def schema(spec: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": spec}}


def ruled(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The schema above, with rules."""
    return schema({**OBJECT, "x-kubernetes-validations": list(rules), **more})


def refusals(described: dict[str, Any]) -> list[tuple[str, str]]:
    """The causes a definition is refused for, each by its path below the spec and its message."""
    causes = schema_rules.check(described, ROOT)
    return [(cause.field.removeprefix(SPEC), cause.message) for cause in causes]


RULE = ".x-kubernetes-validations[0]"


@pytest.mark.parametrize(
    ("rule", "place", "message"),
    [
        ({"rule": " "}, ".rule", "Required value: rule is not specified"),
        ({"rule": "self.min"}, ".rule", "cel expression must evaluate to a bool"),
        (
            {"rule": "self.no > 1"},
            ".rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'no'\n | self.no > 1\n | ....^",
        ),
        (
            {"rule": "'a'.find('(') == ''"},
            ".rule",
            "program instantiation failed: error parsing regexp: missing closing ): `(`",
        ),
        ({"rule": "true", "message": " "}, ".message", 'Invalid value: " ": must be non-empty if specified'),
        ({"rule": "true", "message": "a\nb"}, ".message", "must not contain line breaks"),
        ({"rule": "true\n"}, "", ""),
        ({"rule": "true &&\ntrue"}, ".message", "message must be specified if rule contains line breaks"),
        (
            {"rule": "true", "messageExpression": "1"},
            ".messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            {"rule": "true", "messageExpression": " "},
            ".messageExpression",
            "Required value: messageExpression must be non-empty if specified",
        ),
        (
            {"rule": "true", "messageExpression": "x"},
            ".messageExpression",
            "messageExpression compilation failed: ERROR",
        ),
        (
            {"rule": "true", "fieldPath": ".nope"},
            ".fieldPath",
            'Invalid value: ".nope": must be a valid path',
        ),
        ({"rule": "true", "fieldPath": "min"}, ".fieldPath", "must be a valid path"),
        ({"rule": "true", "fieldPath": ".min"}, "", ""),
        (
            {"rule": "true", "reason": "Because"},
            ".reason",
            (
                'Unsupported value: "Because": supported values: "FieldValueDuplicate", '
                '"FieldValueForbidden",'
                ' "FieldValueInvalid", "FieldValueRequired"'
            ),
        ),
        (
            {"rule": "true", "optionalOldSelf": True},
            ".optionalOldSelf",
            "Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        ({"rule": "self == oldSelf.orValue(self)", "optionalOldSelf": True}, "", ""),
        ({"rule": "self.min == oldSelf.min"}, "", ""),
    ],
)
def test_a_rule_must_make_sense(rule: dict[str, Any], place: str, message: str) -> None:
    """A definition is refused with the place and the words Kubernetes has."""
    causes = refusals(ruled(rule))
    if not message:
        assert causes == []
    else:
        assert [field for field, _ in causes] == [f"{RULE}{place}"]
        assert message in causes[0][1]


def test_old_values_must_be_findable() -> None:
    """The elements of a list that is no map cannot be told apart in the old object."""
    fixed = {"x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    item = {
        "type": "object",
        "properties": {"k": {"type": "string", "maxLength": 9}},
        "required": ["k"],
        **fixed,
    }
    plain = schema({"type": "array", "maxItems": 9, "items": item})
    by_keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    message = (
        'Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema'
        f" within {SPEC}"
    )
    assert refusals(plain) == [(f".items{RULE}.rule", message)]
    assert refusals(schema({"type": "array", "maxItems": 9, "items": item, **by_keys})) == []


HINT = (
    " (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and"
    " strings are declared)"
)


def test_a_rule_must_be_affordable() -> None:
    """What a rule costs at worst, as often as it may run, is bounded."""
    item = {"type": "string", "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]*$')"}]}
    causes = refusals(schema({"type": "array", "items": item}))
    assert (
        f".items{RULE}.rule",
        f"Forbidden: estimated rule cost exceeds budget by factor of more than 100x{HINT}",
    ) in causes
    assert (
        ROOT,
        (
            "Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
            " exceeds budget"
            f" by factor of more than 100x{HINT}"
        ),
    ) in causes
    assert refusals(schema({"type": "array", "maxItems": 100, "items": {**item, "maxLength": 100}})) == []


def test_the_factor_is_told() -> None:
    """How much too expensive a rule is."""
    nested = {"rule": "self.all(x, self.all(y, x == y))"}
    listed = {"type": "array", "maxItems": 1500, "items": {"type": "integer"}}
    causes = refusals(schema({**listed, "x-kubernetes-validations": [nested]}))
    assert causes == [
        (f"{RULE}.rule", f"Forbidden: estimated rule cost exceeds budget by factor of 1.125750x{HINT}")
    ]


def test_all_rules_together_must_be_affordable() -> None:
    """Many rules that are each affordable may not be together."""
    nested = {"rule": "self.all(x, self.all(y, x != y || x == y))", "message": "m"}
    listed = {"type": "array", "maxItems": 900, "items": {"type": "integer"}}
    one = {**listed, "x-kubernetes-validations": [nested]}
    many = schema({"type": "object", "properties": {f"f{i:02}": one for i in range(20)}})
    causes = refusals(many)
    assert {message for field, message in causes if field != ROOT} == {
        "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    }
    assert len(causes) == 5
    assert refusals(schema(one)) == []


OBJECT_OF_KIND = {"apiVersion": "example.org/v1", "kind": "Foo", "metadata": {"name": "x"}}


def checked(
    described: dict[str, Any], spec: Any, old: Any = None
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """The causes and warnings for an object, or for a change of one."""
    compiled = Structural(described)
    warnings: list[str] = []
    new = {**OBJECT_OF_KIND, "spec": spec}
    if old is None:
        causes = compiled.validate(new)
    else:
        causes = compiled.validate_update(new, {**OBJECT_OF_KIND, "spec": old}, warnings.append)
    return [(cause.reason, cause.field, cause.message) for cause in causes], warnings


ORDER = {"rule": "self.min <= self.max"}


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({}, ("FieldValueInvalid", "spec", "Invalid value: failed rule: self.min <= self.max")),
        ({"message": " over "}, ("FieldValueInvalid", "spec", "Invalid value: over")),
        (
            {"messageExpression": "'%d > %d'.format([self.min, self.max])"},
            ("FieldValueInvalid", "spec", "Invalid value: 3 > 2"),
        ),
        ({"messageExpression": "''", "message": "m"}, ("FieldValueInvalid", "spec", "Invalid value: m")),
        (
            {"messageExpression": "'a\\nb'"},
            ("FieldValueInvalid", "spec", "Invalid value: failed rule: self.min <= self.max"),
        ),
        (
            {"messageExpression": "string(1 / 0)", "message": "m"},
            ("FieldValueInvalid", "spec", "Invalid value: m"),
        ),
        ({"fieldPath": ".min", "message": "m"}, ("FieldValueInvalid", "spec.min", "Invalid value: m")),
        ({"reason": "FieldValueForbidden", "message": "m"}, ("FieldValueForbidden", "spec", "Forbidden: m")),
        (
            {"reason": "FieldValueRequired", "message": "m"},
            ("FieldValueRequired", "spec", "Required value: m"),
        ),
        (
            {"reason": "FieldValueDuplicate", "message": "m"},
            ("FieldValueDuplicate", "spec", "Duplicate value"),
        ),
    ],
)
def test_what_a_broken_rule_says(more: dict[str, Any], cause: tuple[str, str, str]) -> None:
    """Reason, place and words are the rule's."""
    assert checked(ruled({**ORDER, **more}), {"min": 3, "max": 2}) == ([cause], [])
    assert checked(ruled({**ORDER, **more}), {"min": 1, "max": 2}) == ([], [])


def test_a_rule_that_fails_is_broken() -> None:
    """A missing field is an error that names the rule."""
    causes, _ = checked(ruled(ORDER), {"min": 3})
    message = 'Invalid value: "object": no such key: max evaluating rule: self.min <= self.max'
    assert causes == [("FieldValueInvalid", "spec", message)]
    either = {"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": True}}}
    causes, _ = checked(schema({**either, "x-kubernetes-validations": [{"rule": "self.p > 1"}]}), {"p": "x"})
    assert "'no such overload': call arguments did not match a supported operator" in causes[0][2]


def test_rules_hold_in_all_places() -> None:
    """Of the root, of fields, of elements, of values; scalars are quoted."""
    odd = {"x-kubernetes-validations": [{"rule": "self % 2 == 1", "message": "even"}]}
    number = {"type": "integer", **odd}
    described = {
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('y')", "message": "name"}],
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "one": number,
                    "list": {"type": "array", "items": number},
                    "map": {"type": "object", "additionalProperties": number},
                    "deep": {"type": "array", "items": {"type": "object", "properties": {"n": number}}},
                },
            }
        },
    }
    spec = {"one": 2, "list": [1, 4], "map": {"a.b": 6}, "deep": [{"n": 1}, {"n": 8}]}
    causes, _ = checked(described, spec)
    assert [(field, message) for _, field, message in causes] == [
        ("<nil>", "Invalid value: name"),
        ("spec.one", "Invalid value: 2: even"),
        ("spec.list[1]", "Invalid value: 4: even"),
        ("spec.map[a.b]", "Invalid value: 6: even"),
        ("spec.deep[1].n", "Invalid value: 8: even"),
    ]
    nullable = schema({"type": "object", "properties": {"one": {**number, "nullable": True}}})
    assert checked(nullable, {"one": None}) == ([], [])


FIXED = {"rule": "self == oldSelf", "message": "fixed"}


def test_rules_of_changes_need_an_old_value() -> None:
    """They hold from the second write on, and for as long as the value is there."""
    described = schema(
        {"type": "object", "properties": {"engine": {"type": "string", "x-kubernetes-validations": [FIXED]}}}
    )
    assert checked(described, {"engine": "x"}) == ([], [])
    assert checked(described, {"engine": "x"}, {}) == ([], [])
    assert checked(described, {"engine": "x"}, {"engine": "x"}) == ([], [])
    broken = ("FieldValueInvalid", "spec.engine", 'Invalid value: "y": fixed')
    assert checked(described, {"engine": "y"}, {"engine": "x"}) == ([broken], [])
    assert checked(described, {}, {"engine": "x"}) == ([], [])


def test_elements_of_a_map_are_found_by_their_keys() -> None:
    """However the list is ordered."""
    item = {
        "type": "object",
        "properties": {
            "k": {"type": "string"},
            "v": {"type": "integer", "x-kubernetes-validations": [FIXED]},
        },
    }
    by_keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    described = schema({"type": "array", "items": item, **by_keys})
    old = [{"k": "a", "v": 1}, {"k": "b", "v": 2}]
    assert checked(described, [{"k": "b", "v": 2}, {"k": "a", "v": 1}, {"k": "c", "v": 3}], old) == ([], [])
    causes, _ = checked(described, [{"k": "b", "v": 5}, {"k": "a", "v": 1}], old)
    assert causes == [("FieldValueInvalid", "spec[0].v", "Invalid value: 5: fixed")]


def test_an_old_value_may_be_optional() -> None:
    """Then the rule of a change holds on create too."""
    rule = {
        "rule": "oldSelf.hasValue() || self == 'start'",
        "optionalOldSelf": True,
        "message": "begin with start",
    }
    described = schema(
        {"type": "object", "properties": {"phase": {"type": "string", "x-kubernetes-validations": [rule]}}}
    )
    assert checked(described, {"phase": "start"}) == ([], [])
    assert len(checked(described, {"phase": "end"})[0]) == 1
    assert checked(described, {"phase": "end"}, {"phase": "start"}) == ([], [])


def test_what_has_not_changed_is_a_warning() -> None:
    """Objects older than a rule can be written, as long as the value it is about stays."""
    described = ruled(
        {**ORDER, "message": "over"}, properties={**OBJECT["properties"], "x": {"type": "integer"}}
    )
    bad = {"min": 3, "max": 2}
    assert checked(described, bad, bad) == ([], ["spec: Invalid value: over"])
    causes, warnings = checked(described, {**bad, "x": 1}, bad)
    assert ([message for *_, message in causes], warnings) == (["Invalid value: over"], [])
    item = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0", "message": "positive"}]}
    values = schema({"type": "object", "additionalProperties": item})
    causes, warnings = checked(values, {"a": 0, "b": 0}, {"a": 0, "b": 1})
    assert causes == [("FieldValueInvalid", "spec[b]", "Invalid value: 0: positive")]
    assert warnings == ["spec[a]: Invalid value: 0: positive"]
    listed = schema({"type": "array", "items": item})
    assert checked(listed, [0], [0]) == ([], ["spec[0]: Invalid value: 0: positive"])
    assert len(checked(listed, [0, 1], [0])[0]) == 1


def test_rules_wait_for_the_form() -> None:
    """Where the schema is not met rules would only fail; the author is told that they did not run."""
    described = ruled(ORDER, required=["min"])
    causes, _ = checked(described, {"max": "x"})
    assert causes[-1] == (
        "FieldValueInvalid",
        "<nil>",
        (
            "Invalid value: null: some validation rules were not checked because the object was invalid;"
            " correct the"
            " existing errors to complete validation"
        ),
    )
    assert not any("failed rule" in message for *_, message in causes)


def test_a_rule_beyond_the_limit_ends_the_validation() -> None:
    """The rules after it do not run."""
    bomb = {"rule": "self.l.all(a, self.l.all(b, self.l.all(c, true)))", "message": "m"}
    described = ruled(
        bomb, {"rule": "false"}, properties={"l": {"type": "array", "items": {"type": "integer"}}}
    )
    causes, _ = checked(described, {"l": list(range(300))})
    assert [message for *_, message in causes] == [
        (
            "Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further"
            " validation rules"
            " will be run due to call cost exceeds limit for rule: m"
        )
    ]


def test_the_budget_of_an_object_ends_the_validation() -> None:
    """What all rules may cost together is bounded as well."""
    rule = {"rule": "self.l.all(a, self.l.all(b, a >= 0))", "message": "m"}
    listed = {"type": "array", "items": {"type": "integer"}}
    described = ruled(*[{**rule, "message": f"m{i}"} for i in range(30)], properties={"l": listed})
    causes, _ = checked(described, {"l": list(range(400))})
    assert [message for *_, message in causes] == [
        (
            'Invalid value: "object": validation failed due to running out of cost budget, no further'
            " validation"
            " rules will be run"
        )
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.replicas", "spec.replicas"),
        (".spec['replicas']", "spec.replicas"),
        (".map['a.b']", "map[a.b]"),
        (".map.key", "map[key]"),
        ("['spec']", "spec"),
        (".map['it\\'s']", "map[it's]"),
        (".map['a\\qb']", None),
        (".spec.nope", None),
        ("spec", None),
        (".spec.", None),
        (".spec[0]", None),
        (".list[0]", None),
        (".map['a'", None),
        ("..", None),
        ("", ""),
    ],
)
def test_the_path_of_a_rule(path: str, expected: str | None) -> None:
    """Fields by name, entries of maps by key; elements of lists cannot be named."""
    described = {
        "properties": {
            "spec": {"properties": {"replicas": {"type": "integer"}}},
            "map": {"additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "string"}},
        }
    }
    assert field_paths.normalized(path, described) == expected

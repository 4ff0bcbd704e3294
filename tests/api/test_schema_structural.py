"""Custom resources are pruned, defaulted and validated by their schema, in Kubernetes' words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.schema import formats, rules, structural
from ondol.base import errors

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["image"],
            "properties": {
                "image": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
                "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
                "tier": {"type": "string", "enum": ["gold", "silver"]},
                "port": {"x-kubernetes-int-or-string": True},
                "note": {"type": "string", "nullable": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "tags": {
                    "type": "array",
                    "items": {"type": "string"},
                    "x-kubernetes-list-type": "set",
                    "maxItems": 3,
                },
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "protocol": {"type": "string", "default": "TCP"},
                        },
                    },
                },
                "template": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "one": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
            },
        }
    },
}
CR = {"apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "a"}}


def causes(**spec: Any) -> list[tuple[str, str, str]]:
    compiled = structural.Structural(SCHEMA)
    document = {**CR, "spec": {"image": "nginx", **spec}}
    return [(c.field, c.reason, c.message) for c in compiled.validate(document)]


def test_a_valid_document_has_no_causes() -> None:
    """Nothing is said where nothing is wrong."""
    assert (
        causes(replicas=3, tier="gold", port="http", note=None, tags=["a"], labels={"a": "b"}, one={"a": ""})
        == []
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"replicas": -1},
            (
                "spec.replicas",
                "FieldValueInvalid",
                "Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
            ),
        ),
        (
            {"replicas": 11},
            (
                "spec.replicas",
                "FieldValueInvalid",
                "Invalid value: 11: spec.replicas in body should be less than or equal to 10",
            ),
        ),
        (
            {"replicas": "3"},
            (
                "spec.replicas",
                "FieldValueTypeInvalid",
                'Invalid value: "string": spec.replicas in body must be of type integer: "string"',
            ),
        ),
        (
            {"replicas": None},
            (
                "spec.replicas",
                "FieldValueTypeInvalid",
                'Invalid value: "null": spec.replicas in body must be of type integer: "null"',
            ),
        ),
        (
            {"tier": "tin"},
            (
                "spec.tier",
                "FieldValueNotSupported",
                'Unsupported value: "tin": supported values: "gold", "silver"',
            ),
        ),
        (
            {"image": "A1"},
            (
                "spec.image",
                "FieldValueInvalid",
                "Invalid value: \"A1\": spec.image in body should match '^[a-z]+$'",
            ),
        ),
        (
            {"port": True},
            (
                "spec.port",
                "FieldValueTypeInvalid",
                'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"',
            ),
        ),
        (
            {"labels": {"a": 1}},
            (
                "spec.labels.a",
                "FieldValueTypeInvalid",
                'Invalid value: "integer": spec.labels.a in body must be of type string: "integer"',
            ),
        ),
        ({"tags": ["a", "a"]}, ("spec.tags[1]", "FieldValueDuplicate", 'Duplicate value: "a"')),
        (
            {"tags": ["a", "b", "c", "d"]},
            ("spec.tags", "FieldValueTooMany", "Too many: 4: must have at most 3 items"),
        ),
        (
            {"ports": [{"name": "a"}, {"name": "a"}]},
            ("spec.ports[1]", "FieldValueDuplicate", 'Duplicate value: {"name":"a"}'),
        ),
        ({"ports": [{}]}, ("spec.ports[0].name", "FieldValueRequired", "Required value")),
        ({"template": {"kind": "Pod"}}, ("spec.template.apiVersion", "FieldValueRequired", "Required value")),
        (
            {"one": {"a": "", "b": ""}},
            (
                "spec.one",
                "FieldValueInvalid",
                (
                    'Invalid value: {"a":"","b":""}: "spec.one" must validate one and only one'
                    " schema (oneOf). Found 2 valid alternatives"
                ),
            ),
        ),
    ],
)
def test_each_rule_has_its_cause(spec: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """One wrong thing, one cause, with path, reason and message as kubectl users know them."""
    assert causes(**spec) == [expected]


def test_a_missing_required_field_is_named() -> None:
    """Also when the whole of spec is wrong."""
    compiled = structural.Structural(SCHEMA)
    assert [c.field for c in compiled.validate({**CR, "spec": {}})] == ["spec.image"]


def test_pruning_keeps_what_is_known_or_open() -> None:
    """Unknown fields go, except under preserve-unknown-fields; metadata is metadata."""
    compiled = structural.Structural(SCHEMA)
    document = {
        **CR,
        "extra": 1,
        "spec": {"image": "a", "bogus": {}, "free": {"x": 1}, "ports": [{"name": "p", "y": 2}]},
    }
    document["metadata"] = {"name": "a", "wrong": 1}
    pruned = compiled.decode(document)
    assert pruned == {**CR, "spec": {"image": "a", "free": {"x": 1}, "ports": [{"name": "p"}]}}
    assert sorted(compiled.unknown_fields(document)) == [
        "extra",
        "metadata.wrong",
        "spec.bogus",
        "spec.ports[0].y",
    ]


_NULLS = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "plain": {"type": "string"},
                "list": {"type": "array", "items": {"type": "string"}},
                "free": {"x-kubernetes-preserve-unknown-fields": True},
                "nullable": {"type": "string", "nullable": True},
                "defaulted": {"type": "string", "default": "d"},
                "object": {"type": "object", "properties": {"k": {"type": "string"}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "open": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"k": {"type": "string"}},
                },
                "any": {
                    "type": "object",
                    "additionalProperties": True,
                    "properties": {"k": {"type": "object", "properties": {"n": {"type": "integer"}}}},
                },
            },
        },
    },
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"plain": None, "list": None, "free": None, "object": None, "labels": None}, {}),
        ({"nullable": None}, {"nullable": None}),
        ({"defaulted": None}, {"defaulted": "d"}),
        ({"object": {"k": None}}, {"object": {}}),
        ({"labels": {"a": None, "b": "x"}}, {"labels": {"b": "x"}}),
        ({"open": {"k": None, "unknown": None}}, {"open": {"unknown": None}}),
        ({"list": ["a", None]}, {"list": ["a", None]}),
        (
            {"any": {"k": {"n": 1, "m": 2}, "other": 1, "o": None}},
            {"any": {"k": {"n": 1}, "other": 1, "o": None}},
        ),
        ({"any": {"deep": {"x": 1}, "l": [{"x": 1}, 2]}}, {"any": {"deep": {}, "l": [{}, 2]}}),
    ],
)
def test_nulls_go_where_they_may_not_be(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    """As Go decodes into structs: a null is nothing unless the schema says nullable, or nothing of it."""
    walkers = structural.Structural(_NULLS)
    document = {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"}, "spec": spec}
    pruned = walkers.decode(document)
    walkers.default(pruned)
    assert pruned["spec"] == {"defaulted": "d", **expected}


def test_what_additional_properties_true_leaves_out_is_told() -> None:
    """Only the members of objects that nothing describes are unknown, not the objects themselves."""
    walkers = structural.Structural(_NULLS)
    document = {"spec": {"any": {"a": {"x": 1}, "l": [{"y": 1}], "k": {"n": 1, "m": 1}, "s": 1}}}
    assert sorted(walkers.unknown_fields(document)) == ["spec.any.a.x", "spec.any.k.m", "spec.any.l[0].y"]
    assert rules.check(_NULLS, "s") == []
    values = {
        "type": "object",
        "properties": {"k": {"type": "string"}},
        "additionalProperties": {"type": "string"},
    }
    wrong = {"type": "object", "properties": {"spec": values}}
    assert [cause.field for cause in rules.check(wrong, "s")] == ["s.properties[spec].additionalProperties"]


def test_malformed_metadata_is_a_bad_request() -> None:
    """As for built-in kinds."""
    with pytest.raises(errors.BadRequest, match=r"X.metadata.labels.a of type string"):
        structural.Structural(SCHEMA).decode({**CR, "metadata": {"labels": {"a": 1}}})


def test_defaults_fill_gaps_and_replace_forbidden_nulls() -> None:
    """Inside lists too, and only where the parent is there."""
    compiled = structural.Structural(SCHEMA)
    document: dict[str, Any] = {**CR, "spec": {"image": "a", "replicas": None, "ports": [{"name": "p"}]}}
    compiled.default(document)
    assert document["spec"] == {"image": "a", "replicas": 1, "ports": [{"name": "p", "protocol": "TCP"}]}
    bare: dict[str, Any] = copy.deepcopy(CR)
    compiled.default(bare)
    assert bare == CR


def test_an_update_may_leave_old_faults_alone() -> None:
    """Ratcheting: what was wrong and is unchanged does not block a write; a new fault does."""
    compiled = structural.Structural(SCHEMA)
    old = {**CR, "spec": {"image": "a", "tier": "tin"}}
    assert compiled.validate_update({**old, "metadata": {"name": "a", "labels": {"x": "y"}}}, old) == []
    worse = {**CR, "spec": {"image": "a", "tier": "lead"}}
    assert [c.field for c in compiled.validate_update(worse, old)] == ["spec.tier"]


def test_what_was_wrong_is_forgiven_only_while_it_stays() -> None:
    """Another value that is wrong in the same way is refused, though the words about it are the same."""
    short = {"type": "string", "maxLength": 1}
    spec = {
        "one": short,
        "list": {"type": "array", "items": short},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"v": short}}},
    }
    compiled = structural.Structural(
        {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
    )
    old: Any = {**CR, "spec": {"one": "old", "list": ["old"], "map": {"a.b/c[0]": {"v": "old"}}}}
    assert len(compiled.validate(old)) == 3
    assert compiled.validate_update({**old, "metadata": {"name": "a", "labels": {"x": "y"}}}, old) == []
    changes: list[Any] = [{"one": "new"}, {"list": ["new"]}, {"map": {"a.b/c[0]": {"v": "new"}}}]
    for change in changes:
        assert len(compiled.validate_update({**old, "spec": {**old["spec"], **change}}, old)) == 1, change


def test_rules_in_cel_are_part_of_the_schema() -> None:
    """What breaks one is refused like what breaks any other part."""
    ruled = {"type": "object", "properties": {"a": {"type": "integer"}}}
    spec = {**ruled, "x-kubernetes-validations": [{"rule": "self.a > 1", "message": "too small"}]}
    schema = {"type": "object", "properties": {"spec": spec}}
    assert structural.has_rules(schema)
    assert not structural.has_rules(SCHEMA)
    causes = structural.Structural(schema).validate({**CR, "spec": {"a": 1}})
    assert [(cause.field, cause.message) for cause in causes] == [("spec", "Invalid value: too small")]


def test_this_schema_is_structural() -> None:
    """The schema of these tests would be accepted."""
    assert rules.check(SCHEMA, "s") == []


def spec_with(**prop: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"p": prop}}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "string"}, "s.type"),
        ({}, "s.type"),
        (spec_with(), "s.properties[p].type"),
        (spec_with(type="strnig"), "s.properties[p].type"),
        (spec_with(type="array"), "s.properties[p].items"),
        (spec_with(type="string", pattern="("), "s.properties[p].pattern"),
        (spec_with(type="object", additionalProperties=False), "s.properties[p].additionalProperties"),
        (spec_with(type="integer", default="x"), "s.properties[p].default"),
        (spec_with(type="object", default={"zz": 1}), "s.properties[p].default"),
        (
            spec_with(type="object", anyOf=[{"properties": {"x": {"minimum": 1}}}]),
            "s.properties[p].properties[x]",
        ),
        (spec_with(type="string", anyOf=[{"type": "string"}]), "s.properties[p].anyOf[0].type"),
        (
            spec_with(type="array", items={"type": "object"}, **{"x-kubernetes-list-type": "map"}),
            "s.properties[p].x-kubernetes-list-map-keys",
        ),
        (spec_with(**{"$ref": "#/x", "type": "object"}), "s.properties[p].$ref"),
        (
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}},
            },
            "s.properties[metadata]",
        ),
    ],
)
def test_what_is_not_structural_is_refused(schema: dict[str, Any], field: str) -> None:
    """Each violation names the place in the schema."""
    assert field in [cause.field for cause in rules.check(schema, "s")]


def test_int_or_string_may_be_spelled_with_any_of() -> None:
    """The one junctor in which types may stand."""
    schema = spec_with(
        **{"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    )
    assert rules.check(schema, "s") == []
    assert structural.Structural(schema).validate({"p": "5%"}) == []
    typed_too = spec_with(type="string", **{"x-kubernetes-int-or-string": True})
    assert rules.check(typed_too, "s") == []
    assert structural.Structural(typed_too).validate({"p": 5}) == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2024-01-01T00:00:00Z", "2024-01-01"),
        ("date", "2024-02-29", "2023-02-29"),
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("email", "a@b.c", "ab.c"),
        ("hostname", "a.b-c", "a..b"),
        ("uri", "http://a/b", "a b"),
        ("mac", "00:1a:2b:3c:4d:5e", "00:1a:2b"),
        ("byte", "aGk=", "a"),
        ("duration", "1h30m", "soon"),
        ("hexcolor", "#fff", "#ff"),
        ("isbn10", "0321751043", "0321751044"),
        ("isbn13", "978-0321751041", "978-0321751042"),
        ("creditcard", "4111111111111111", "4111111111111112"),
        ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    """One good and one bad value of each."""
    check = formats.check(name)
    assert check is not None
    assert check(good)
    assert not check(bad)


def test_unknown_formats_mean_nothing() -> None:
    """As in Kubernetes."""
    assert formats.check("shoe-size") is None


def test_patterns_are_matched_in_linear_time_and_for_a_bounded_cost() -> None:
    """What would hold a backtracking engine is answered; what costs too much is refused, by its path."""
    slow = structural.Structural(spec_with(type="string", pattern="^(a+)+$"))
    (cause,) = slow.validate({"p": "a" * 50 + "!"})
    assert cause.message.endswith("p in body should match '^(a+)+$'")
    many = {"type": "string", "pattern": "(a?){1000}b"}
    heavy = structural.Structural(spec_with(type="array", items=many))
    causes = heavy.validate({"p": ["a" * 1000] * 100})
    assert causes[-1].field == "p[99]"
    assert "too long for the patterns" in causes[-1].message
    assert "should match" in causes[0].message


def test_patterns_are_bounded_in_sum() -> None:
    """Thousands of large ones would be compiled for minutes."""
    properties = {f"p{n}": {"type": "string", "pattern": f"{n}(\\pL|\\pN){{9}}"} for n in range(2000)}
    (cause,) = rules.check({"type": "object", "properties": properties}, "s")
    assert "too many or too large together" in cause.message
    properties = {f"p{n}": {"type": "string", "pattern": f"^[a-z]{{1,63}}{n}$"} for n in range(2000)}
    assert rules.check({"type": "object", "properties": properties}, "s") == []


def test_a_pattern_that_is_none_any_more_matches_nothing() -> None:
    """Definitions may have been stored when look-ahead was still taken: they load, and say what is wrong."""
    (cause,) = structural.Structural(spec_with(type="string", pattern="(?=a)")).validate({"p": "a"})
    assert "but pattern is invalid: error parsing regexp" in cause.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_no_document_breaks_the_walkers(spec: Any) -> None:
    """Whatever JSON stands for spec, pruning is stable and validation answers."""
    compiled = structural.Structural(SCHEMA)
    pruned = compiled.decode({**CR, "spec": spec})
    assert compiled.decode(pruned) == pruned
    assert compiled.unknown_fields(pruned) == []
    compiled.default(pruned)
    compiled.validate(pruned)

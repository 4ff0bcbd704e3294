"""Fields that a kind does not have, and keys that stand twice: told, refused or ignored, as asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api.objects import Object

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
Make = Callable[..., Object]


async def test_unknown_and_repeated_fields_are_told_or_refused(api: Any) -> None:
    """FieldValidation Warn tells, Strict refuses, Ignore is silent; the field is never stored."""
    body = b'{"metadata":{"name":"a"},"data":{"k":"1","k":"2"},"colour":"red"}'
    strict = await api.post(f"{CMS}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert strict.json["message"] == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
        'strict decoding error: duplicate field "data.k", unknown field "colour"'
    )
    warned = await api.post(CMS, body)
    assert warned.status == 201
    assert warned.warnings == [
        '299 - "duplicate field \\"data.k\\""',
        '299 - "unknown field \\"colour\\""',
    ]
    assert "colour" not in warned.json
    ignored = await api.post(f"{CMS}?fieldValidation=Ignore", body.replace(b'"a"', b'"b"', 1))
    assert (ignored.status, ignored.warnings) == (201, [])
    assert (await api.post(f"{CMS}?fieldValidation=Maybe", body)).status == 400


async def test_what_strict_decoding_finds_is_told_in_the_order_of_the_body(api: Any) -> None:
    """Of built-in kinds, which are decoded in one pass; what is inside of an unknown field is not read."""
    body = (
        b'{"metadata":{"name":"a","nick":"n"},"colour":{"k":1,"k":2},"data":{"k":"1","k":"2","k":"3"},'
        b'"immutable":false,"immutable":false,"shade":1,"shade":1}'
    )
    strict = await api.post(f"{CMS}?fieldValidation=Strict", body)
    assert strict.json["message"].partition("strict decoding error: ")[2] == (
        'unknown field "metadata.nick", unknown field "colour", duplicate field "data.k", '
        'duplicate field "immutable", unknown field "shade"'
    )


async def test_keys_that_stand_twice_in_yaml_are_told_or_refused(api: Any) -> None:
    """The last one would win in silence."""
    body = b"kind: ConfigMap\napiVersion: v1\nmetadata: {name: y}\ndata:\n  k: a\n  k: b\n"
    strict = await api.patch(f"{CMS}/y?fieldManager=m&fieldValidation=Strict", body, "apply-patch+yaml")
    assert (strict.status, strict.json["message"]) == (
        400,
        (
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
            '  line 6: key "k" already set in map'
        ),
    )
    posted = await api("POST", f"{CMS}?fieldValidation=Strict", body, {"content-type": "application/yaml"})
    assert (posted.status, posted.json["message"]) == (
        400,
        (
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
            'yaml: unmarshal errors:\n  line 6: key "k" already set in map'
        ),
    )
    warned = await api.patch(f"{CMS}/y?fieldManager=m", body, "apply-patch+yaml")
    assert warned.warnings == ['299 - "line 6: key \\"k\\" already set in map"']
    as_json = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"y"},"data":{"k":"a","k":"b"}}'
    warned = await api.patch(f"{CMS}/y?fieldManager=m", as_json, "apply-patch+yaml")
    assert warned.warnings == ['299 - "line 1: key \\"k\\" already set in map"']


@pytest.mark.parametrize("choice", ["Ignore", "Warn", "Strict"])
async def test_an_unknown_field_cannot_be_applied(api: Any, choice: str) -> None:
    """Nobody could own it: it is refused whatever the query says, in the words of the field manager."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "y"}, "bogus": 1}
    target = f"{CMS}/y?fieldManager=m&fieldValidation={choice}"
    refused = await api.patch(target, body, "apply-patch+yaml")
    assert (refused.status, refused.json["message"]) == (
        400,
        "failed to create typed patch object (/y; v1, Kind=ConfigMap): .bogus: field not declared in schema",
    )


@pytest.mark.parametrize(
    ("body", "kind", "problems"),
    [
        ({"bogus": 1}, "merge-patch+json", ['unknown field "bogus"']),
        (b'{"data":{"k":"1","k":"2"}}', "merge-patch+json", ['duplicate field "data.k"']),
        (b'{"data":{"k":"1","k":"2"}}', "strategic-merge-patch+json", ['duplicate field "data.k"']),
        (
            [{"op": "add", "path": "/bogus", "value": 1, "extra": 2}],
            "json-patch+json",
            ['json patch unknown field "[0].extra"', 'unknown field "bogus"'],
        ),
    ],
)
async def test_fields_of_patches_are_told_or_refused(
    api: Any, config_map: Make, body: Any, kind: str, problems: list[str]
) -> None:
    """What is wrong in the patch comes first; a strict refusal is 422 and shows what would be."""
    await api.post(CMS, config_map("a", {"k": "v"}))
    refused = await api.patch(f"{CMS}/a?fieldValidation=Strict", body, kind)
    assert refused.status == 422
    (cause,) = refused.json["details"]["causes"]
    assert cause["field"] == "patch"
    assert cause["message"].endswith(f": strict decoding error: {', '.join(problems)}")
    assert refused.json["message"] == f' "" is invalid: patch: {cause["message"]}'
    warned = await api.patch(f"{CMS}/a", body, kind)
    assert warned.status == 200
    assert [text.removeprefix('299 - "')[:-1].replace('\\"', '"') for text in warned.warnings] == problems

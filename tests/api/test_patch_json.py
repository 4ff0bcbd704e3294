"""JSON patch and merge patch: RFC cases, Kubernetes' answers, and properties."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.patch import json_patch, merge_patch
from ondol.base import errors

_SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "~/", "é"])
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=3),
    max_leaves=12,
)
_NULL_FREE = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.sampled_from("abc"), _NULL_FREE, max_size=4)


def _op(op: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **more}


@pytest.mark.parametrize(
    ("document", "operation", "result"),
    [
        ({"a": 1}, _op("add", "/b", value=2), {"a": 1, "b": 2}),
        ({"a": 1}, _op("add", "/a", value=[1]), {"a": [1]}),
        ({"a": [1, 3]}, _op("add", "/a/1", value=2), {"a": [1, 2, 3]}),
        ({"a": [1]}, _op("add", "/a/-", value=2), {"a": [1, 2]}),
        ({"a": []}, _op("add", "/a/0", value=None), {"a": [None]}),
        ({"a": 1, "b": 2}, _op("remove", "/a"), {"b": 2}),
        ({"a": [1, 2, 3]}, _op("remove", "/a/-1"), {"a": [1, 2]}),
        ({"a": {"b": 1}}, _op("replace", "/a/b", value=2), {"a": {"b": 2}}),
        ({"a": [1, 2]}, _op("replace", "/a/0", value=9), {"a": [9, 2]}),
        ({"a": 1}, _op("replace", "", value={"z": 0}), {"z": 0}),
        ({"a/b": 1, "m~n": 2}, _op("replace", "/a~1b", value=3), {"a/b": 3, "m~n": 2}),
        ({"a": {"b": 1}}, _op("move", "/c", **{"from": "/a/b"}), {"a": {}, "c": 1}),
        ({"a": [1, 2]}, _op("move", "/a/1", **{"from": "/a/0"}), {"a": [2, 1]}),
        ({"a": {"b": 1}}, _op("copy", "/c", **{"from": "/a"}), {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": [1, {"b": 2.0}]}, _op("test", "/a/1", value={"b": 2}), {"a": [1, {"b": 2.0}]}),
        ({"a": 1}, _op("test", "/b", value=None), {"a": 1}),
        ({"a": 1}, _op("test", "/a", value=1, comment="ignored"), {"a": 1}),
        ({"a": {}}, _op("replace", "/a/b", value=1), {"a": {"b": 1}}),
        ({"a": 1}, _op("replace", "/b", value=2), {"a": 1, "b": 2}),
        ({"a": 1}, _op("replace", "/a"), {"a": None}),
        ({"a": 1}, _op("add", "/b"), {"a": 1, "b": None}),
        ({"a": []}, _op("add", "/a/-"), {"a": [None]}),
        ({"a": 1}, _op("copy", "/b", **{"from": "/zzz"}), {"a": 1, "b": None}),
        ({"a": None}, _op("move", "/b", **{"from": "/a"}), {"b": None}),
        ({"a": {"b": 1}}, _op("replace", "ignored/a/b", value=2), {"a": {"b": 2}}),
        ({"b": 1}, _op("replace", "a/b", value=2), {"b": 2}),
        ({"a": [1, 2]}, _op("replace", "/a/+1", value=3), {"a": [1, 3]}),
        ({"a": [1, 2]}, _op("add", "/a/-1", value=3), {"a": [1, 2, 3]}),
        ({"a": [1, {}]}, _op("move", "/a/0/x", **{"from": "/a/0"}), {"a": [{"x": 1}]}),
        ({"a": [None]}, _op("test", "/a", value=[None]), {"a": [None]}),
        ({"a": 1}, _op("test", "/b"), {"a": 1}),
        ({"a": 1}, _op("replace", "", value=[1]), [1]),
    ],
)
def test_an_operation_changes_what_it_names(document: Any, operation: dict[str, Any], result: Any) -> None:
    """Each operation answers as the library in Kubernetes does, and the original stays as it was."""
    before = copy.deepcopy(document)
    assert json_patch.apply(document, [operation]) == result
    assert document == before


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (_op("test", "/a", value=2), "testing value /a failed: test failed"),
        (_op("test", "/a", value=True), "testing value /a failed: test failed"),
        (_op("test", "/zzz", value=1), "testing value /zzz failed: test failed"),
        (_op("test", "/zzz/y", value=None), "test operation does not apply: is missing path: /zzz/y"),
        (_op("test", "/l/2", value=None), "invalid index referenced"),
        (_op("test", "/l/x", value=None), 'strconv.Atoi: parsing "x": invalid syntax'),
        (_op("test", "/a"), "testing value /a failed: test failed"),
        (_op("remove", "/zzz"), "Unable to remove nonexistent key: zzz"),
        (_op("replace", "/zzz/y", value=1), "replace operation does not apply: doc is missing path: /zzz/y"),
        (_op("replace", "/l/2", value=1), "replace operation does not apply: doc is missing path: /l/2"),
        (_op("replace", "/l/-", value=1), "replace operation does not apply: doc is missing path: /l/-"),
        (_op("replace", "", value="x"), "replace operation value must be object or array"),
        (_op("replace", ""), "replace operation value must be object or array"),
        (_op("add", "/zzz/y", value=1), "add operation does not apply: doc is missing path: /zzz/y"),
        (_op("add", "", value={}), "add operation does not apply: doc is missing path: "),
        (_op("add", "/n/x", value=1), "add operation does not apply: doc is missing path: /n/x"),
        (_op("add", "/l/3", value=1), "add operation does not apply: doc is missing path: /l/3"),
        (_op("add", "/l/-4", value=1), "add operation does not apply: doc is missing path: /l/-4"),
        (_op("add", "/l/x", value=1), "add operation does not apply: doc is missing path: /l/x"),
        (_op("remove", "/a/b"), "remove operation does not apply: doc is missing path: /a/b"),
        (_op("remove", "/l/2"), "invalid index referenced"),
        (_op("remove", ""), "remove operation does not apply: doc is missing path: "),
        (_op("replace", "a", value=1), "replace operation does not apply: doc is missing path: a"),
        (_op("move", "/b", **{"from": "/zzz"}), "doc is missing from path: /zzz"),
        (_op("move", "/l/0/x", **{"from": "/l/0"}), "doc is missing destination path: /l/0/x"),
        (_op("copy", "/b", **{"from": "/l/5"}), "copy operation does not apply: doc is missing from path"),
        (_op("copy", "/b", **{"from": "/zzz/y"}), "copy operation does not apply: doc is missing from path"),
        (
            _op("copy", "/zzz/y", **{"from": "/a"}),
            "copy operation does not apply: doc is missing destination",
        ),
        (_op("copy", "/b"), "copy operation failed to decode from: operation missing from field"),
        ({"op": "add", "path": 7}, "add operation failed to decode path"),
        ({"op": 1, "path": "/a"}, "Unexpected kind: unknown"),
        (_op("spin", "/a"), "Unexpected kind: spin"),
        ({"op": "remove"}, "remove operation failed to decode path: operation missing path field"),
    ],
)
def test_a_patch_that_does_not_fit_is_unprocessable(operation: dict[str, Any], message: str) -> None:
    """Operators rely on 422 to learn that a `test` failed; the cause says which."""
    with pytest.raises(errors.Invalid) as caught:
        json_patch.apply({"a": 1, "l": [1, 2], "n": None}, [operation])
    assert caught.value.status_code == 422
    assert message in caught.value.causes[0].message


@pytest.mark.parametrize("patch", [{}, "[]", ["x"], [["add", "/a"]], 1])
def test_what_is_no_patch_at_all_is_a_bad_request(patch: Any) -> None:
    """The caller, not the document, is at fault."""
    with pytest.raises(errors.BadRequest):
        json_patch.apply({}, patch)


def test_a_patch_has_a_largest_size() -> None:
    """More operations than the limit are refused before any is carried out."""
    with pytest.raises(errors.TooLarge, match="maximum operations in a JSON patch is 10000, got 10001"):
        json_patch.apply({}, [_op("remove", "/x")] * 10_001)


@given(_JSON, st.lists(_JSON, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), _JSON, max_size=3))
def test_replacing_the_root_gives_the_value(document: Any, value: Any) -> None:
    """Whatever was there, the whole document can be replaced and then tested for."""
    patch = [_op("replace", "", value=value), _op("test", "", value=value)]
    assert json_patch.same(json_patch.apply(document, patch), value)


@given(st.dictionaries(st.sampled_from("ab/~"), _JSON), st.sampled_from("ab/~"), _JSON)
def test_add_then_remove_is_identity_for_a_new_member(document: dict[str, Any], key: str, value: Any) -> None:
    """Pointers with escapes name the same member in both directions."""
    document.pop(key, None)
    assert json_patch.apply(document, None) == document
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    patch = [_op("add", pointer, value=value), _op("test", pointer, value=value), _op("remove", pointer)]
    assert json_patch.apply(document, patch) == document


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_follows_the_rfc(document: Any, patch: Any, result: Any) -> None:
    """The examples of RFC 7386 come out as its appendix says."""
    before = copy.deepcopy(document)
    assert merge_patch.apply(document, patch) == result
    assert document == before


@given(_JSON, _JSON)
def test_a_merge_patch_applied_twice_is_applied_once(document: Any, patch: Any) -> None:
    """A retried write changes nothing more."""
    once = merge_patch.apply(document, patch)
    assert json_patch.same(merge_patch.apply(once, patch), once)


def test_many_operations_on_a_large_list_copy_it_once() -> None:
    """The time of a patch grows with its operations, not with their number times the document."""
    document: Any = {"list": [""] * 300_000, "map": {str(n): "" for n in range(300_000)}}
    patch = [{"op": "replace", "path": "/list/5", "value": n} for n in range(5_000)]
    patch += [{"op": "add", "path": "/map/new", "value": n} for n in range(4_999)]
    begun = time.process_time()
    patched = json_patch.apply(document, patch)
    assert time.process_time() - begun < 2.0
    assert (patched["list"][5], patched["map"]["new"]) == (4_999, 4_998)
    assert (document["list"][5], len(document["map"])) == ("", 300_000)


def test_what_is_copied_is_changed_at_one_place() -> None:
    """Containers that a patch has made are changed as they are, unless they stand at two places."""
    patch = [
        {"op": "add", "path": "/a", "value": {"x": {"y": []}}},
        {"op": "add", "path": "/a/x/y/-", "value": 1},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/a/x/y/-", "value": 2},
        {"op": "add", "path": "/b/x/y/-", "value": 3},
        {"op": "move", "from": "/b/x", "path": "/c"},
        {"op": "add", "path": "/c/y/-", "value": 4},
    ]
    expected = {"a": {"x": {"y": [1, 2]}}, "b": {}, "c": {"y": [1, 3, 4]}}
    before = copy.deepcopy(patch)
    assert json_patch.apply({}, patch) == expected
    assert json_patch.apply({}, patch) == expected
    assert patch == before

"""Properties of patches that hold for every built-in kind, whatever its type."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.from_facts import KINDS, document

from ondol.api import kinds
from ondol.api.patch import apply, json_patch, merge_patch, shape, strategic
from ondol.base import errors

_BUILTIN = sorted({(kind.api_version, kind.kind) for kind in kinds.builtin()} & set(KINDS))
_SETTINGS = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


def _drawn(data: st.DataObject, api_version: str, kind: str) -> dict[str, Any]:
    """A document without nulls, whose lists have each item once, as keyed lists and sets must."""
    drawn = data.draw(document(KINDS[api_version, kind], 4))
    named = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "labels": {"a": "b"}}}
    return dict(_without_twins({**drawn, **named}))


def _without_twins(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_twins(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        kept = [_without_twins(item) for item in value if item is not None]
        return [
            item
            for number, item in enumerate(kept)
            if not any(json_patch.same(item, e) for e in kept[:number])
        ]
    return value


def _merge_diff(old: Any, new: Any) -> Any:
    """The merge patch (RFC 7386) from one document without nulls to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changed = {
        key: _merge_diff(old.get(key), item)
        for key, item in new.items()
        if key not in old or not json_patch.same(old[key], item)
    }
    return {**dict.fromkeys(old.keys() - new.keys()), **changed}


def _json_diff(old: Any, new: Any, at: str = "") -> list[dict[str, Any]]:
    """The JSON patch (RFC 6902) from one document to another, as generators of them write it."""
    if json_patch.same(old, new):
        return []
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [{"op": "replace", "path": at, "value": new}]
    operations = []
    for key in sorted(old.keys() | new.keys()):
        place = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in new:
            operations += [{"op": "test", "path": place, "value": old[key]}, {"op": "remove", "path": place}]
        elif key not in old:
            operations.append({"op": "add", "path": place, "value": new[key]})
        else:
            operations += _json_diff(old[key], new[key], place)
    return operations


@pytest.mark.parametrize(("api_version", "kind"), _BUILTIN)
@_SETTINGS
@given(data=st.data())
def test_a_patch_made_from_two_documents_leads_from_one_to_the_other(
    api_version: str, kind: str, data: st.DataObject
) -> None:
    """Merge of a difference is identity, by either patch; neither changes what it was given."""
    old, new = (_drawn(data, api_version, kind) for _ in range(2))
    before = copy.deepcopy(old)
    assert json_patch.same(merge_patch.apply(old, _merge_diff(old, new)), new)
    assert json_patch.same(json_patch.apply(old, _json_diff(old, new)), new)
    assert json_patch.same(old, before)


@pytest.mark.parametrize(("api_version", "kind"), _BUILTIN)
@_SETTINGS
@given(data=st.data())
def test_a_strategic_patch_twice_is_once(api_version: str, kind: str, data: st.DataObject) -> None:
    """Of any document upon any other of the kind."""
    form = shape.of_builtin(KINDS[api_version, kind])
    old, new = (_drawn(data, api_version, kind) for _ in range(2))
    try:
        once = strategic.apply(old, new, form)
        twice = strategic.apply(once, new, form)
    except errors.BadRequest:
        return  # an item of a keyed list without its key
    assert json_patch.same(twice, once)


@pytest.mark.parametrize(("api_version", "kind"), _BUILTIN)
@_SETTINGS
@given(data=st.data())
def test_an_apply_twice_is_once(api_version: str, kind: str, data: st.DataObject) -> None:
    """Also after another manager's, and by force; and what was applied is there."""
    form = shape.of_builtin(KINDS[api_version, kind])
    first, second = (_drawn(data, api_version, kind) for _ in range(2))
    try:
        live = apply.apply(None, first, schema=form, manager="one", now=0.0)
        once = apply.apply(live, second, schema=form, manager="two", now=1.0, force=True)
    except errors.ApiError:
        return  # two items with one key, or one without
    assert apply.apply(once, second, schema=form, manager="two", now=2.0, force=True) is once
    assert apply.apply(once, second, schema=form, manager="two", now=2.0) is once

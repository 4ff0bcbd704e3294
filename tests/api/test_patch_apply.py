"""Server-side apply and ownership tracking: who owns what after each kind of write."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Object
from ondol.api.patch import apply, fieldset, managed, shape, typed
from ondol.base import errors

_NOW = 1_700_000_000.0
_DEPLOYMENT = shape.of_builtin("io.k8s.api.apps.v1.Deployment")
_CONFIG_MAP = shape.of_builtin("io.k8s.api.core.v1.ConfigMap")
_SERVICE = shape.of_builtin("io.k8s.api.core.v1.Service")
_WIDGET = shape.of_custom(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer"},
                    "struct": {
                        "type": "object",
                        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    },
                    "map": {"type": "object", "additionalProperties": {"type": "string"}},
                    "whole": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "x-kubernetes-map-type": "atomic",
                    },
                    "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "keyed": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
                        },
                    },
                    "list": {"type": "array", "items": {"type": "string"}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
)


def _widget(**spec: Any) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


def _apply(live: Object | None, applied: Object, manager: str = "one", **options: Any) -> Object:
    options.setdefault("now", _NOW)
    return apply.apply(live, applied, schema=options.pop("schema", _WIDGET), manager=manager, **options)


def _update(live: Object | None, new: Object, manager: str = "editor", **options: Any) -> Object:
    options.setdefault("now", _NOW)
    return apply.update(live, new, schema=options.pop("schema", _WIDGET), manager=manager, **options)


def _edited(live: Object, **spec: Any) -> Object:
    """A whole-object write on top of the live object, as a PUT sends it."""
    return {**live, "spec": {**live["spec"], **spec}}


def _owners(obj: Object) -> dict[str, list[str]]:
    """Each manager's fields, rendered as conflicts name them."""
    owners: dict[str, list[str]] = {}
    for entry in obj["metadata"].get("managedFields", ()):
        mark = "*" if entry["operation"] == "Apply" else ""
        paths = fieldset.paths(entry["fieldsV1"])
        owners[entry["manager"] + mark] = [fieldset.render(path) for path in paths]
    return owners


def test_a_first_apply_creates_and_owns_what_it_names() -> None:
    """Identity is never owned; elements of keyed lists and sets are."""
    created = _apply(None, _widget(size=1, set=["x"], keyed=[{"name": "k", "value": "v"}], list=["a"]))
    assert created["spec"] == {"size": 1, "set": ["x"], "keyed": [{"name": "k", "value": "v"}], "list": ["a"]}
    assert created["metadata"]["managedFields"] == [
        {
            "manager": "one",
            "operation": "Apply",
            "apiVersion": "example.com/v1",
            "time": "2023-11-14T22:13:20Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    "f:keyed": {'k:{"name":"k"}': {".": {}, "f:name": {}, "f:value": {}}},
                    "f:list": {},
                    "f:set": {'v:"x"': {}},
                    "f:size": {},
                }
            },
        }
    ]


def test_applying_the_same_again_returns_the_live_object() -> None:
    """A no-op must not move the manager's time: a write would follow, and a watch event."""
    live = _apply(None, _widget(size=1, keyed=[{"name": "k"}]))
    assert _apply(live, _widget(size=1, keyed=[{"name": "k"}]), now=_NOW + 60) is live


def test_a_conflict_names_the_owner_and_the_field() -> None:
    """One conflict reads on one line, and the cause carries the field."""
    live = _update(_apply(None, _widget(size=1)), _widget(size=1), "x")
    live = _update(live, _edited(live, size=5), "scaler")
    with pytest.raises(errors.Conflict) as caught:
        _apply(live, _widget(size=2))
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "scaler" using example.com/v1: .spec.size'
    )
    assert caught.value.causes == (
        errors.Cause("FieldManagerConflict", 'conflict with "scaler" using example.com/v1', ".spec.size"),
    )


def test_many_conflicts_are_listed_by_owner() -> None:
    """Appliers are named without a version, subresources with theirs."""
    live = _apply(None, _widget(size=1, keyed=[{"name": "k", "value": "v"}]), "two")
    live = _update(live, _edited(live, map={"m": "1"}), "three", subresource="status")
    with pytest.raises(errors.Conflict) as caught:
        _apply(live, _widget(size=2, keyed=[{"name": "k", "value": "w"}], map={"m": "2"}))
    assert caught.value.message == (
        "Apply failed with 3 conflicts: "
        'conflicts with "three" with subresource "status" using example.com/v1:\n- .spec.map.m\n'
        'conflicts with "two":\n- .spec.size\n- .spec.keyed[name="k"].value'
    )


def test_force_takes_the_field_from_its_owner() -> None:
    """The former owner no longer owns it; one with nothing left disappears."""
    live = _update(_apply(None, _widget(size=1)), _widget(size=1), "x")
    live = _update(live, _edited(live, size=5), "scaler")
    forced = _apply(live, _widget(size=2), force=True)
    assert forced["spec"]["size"] == 2
    assert _owners(forced) == {"one*": [".spec.size"]}


def test_agreeing_on_a_value_shares_the_field() -> None:
    """Two appliers with one value both own it; when one leaves, the value stays."""
    live = _apply(_apply(None, _widget(size=1, map={"a": "1"})), _widget(size=1), "two")
    assert _owners(live) == {"one*": [".spec.size", ".spec.map.a"], "two*": [".spec.size"]}
    after = _apply(live, _widget(map={"a": "1"}))
    assert after["spec"] == {"size": 1, "map": {"a": "1"}}
    assert _owners(after) == {"one*": [".spec.map.a"], "two*": [".spec.size"]}


@pytest.mark.parametrize(
    ("before", "after", "remaining"),
    [
        ({"size": 1, "map": {"a": "1"}}, {"map": {"a": "1"}}, {"map": {"a": "1"}}),
        ({"map": {"a": "1", "b": "2"}}, {"map": {"b": "2"}}, {"map": {"b": "2"}}),
        ({"set": ["a", "b"]}, {"set": ["b"]}, {"set": ["b"]}),
        (
            {"keyed": [{"name": "a", "value": "1"}, {"name": "b"}]},
            {"keyed": [{"name": "a"}]},
            {"keyed": [{"name": "a"}]},
        ),
        ({"struct": {"a": "1", "b": "2"}}, {"struct": {"b": "2"}}, {"struct": {"b": "2"}}),
        ({"whole": {"a": "1"}}, {"whole": {"b": "2"}}, {"whole": {"b": "2"}}),
        ({"list": ["a", "b"]}, {"list": ["c"]}, {"list": ["c"]}),
        ({"free": {"x": {"y": 1}, "l": [1]}}, {"free": {"l": [2]}}, {"free": {"l": [2]}}),
        ({"map": {"a": "1"}, "size": 1}, {"size": 1}, {"size": 1}),
    ],
)
def test_what_is_no_longer_applied_goes(
    before: dict[str, Any], after: dict[str, Any], remaining: dict[str, Any]
) -> None:
    """A sole owner who stops naming a field, element or member removes it."""
    assert _apply(_apply(None, _widget(**before)), _widget(**after))["spec"] == remaining


def test_others_keep_what_they_own_when_an_applier_leaves() -> None:
    """An element lives on with the fields somebody else owns."""
    live = _apply(None, _widget(keyed=[{"name": "a", "value": "1"}], set=["x"]))
    live = _apply(live, _widget(keyed=[{"name": "a"}], set=["x", "y"]), "two")
    pruned = _apply(live, _widget())
    assert pruned["spec"] == {"keyed": [{"name": "a"}], "set": ["x", "y"]}


def test_an_updaters_field_inside_an_applied_map_survives() -> None:
    """Dropping one's own labels leaves those a controller added."""
    live = _apply(None, _widget(map={"mine": "1"}))
    live = _update(live, _edited(live, map={"mine": "1", "theirs": "2"}), "controller")
    pruned = _apply(live, _widget())
    assert pruned["spec"] == {"map": {"theirs": "2"}}
    assert _owners(pruned) == {"one*": [".spec"], "controller": [".spec.map.theirs"]}


def test_a_create_is_owned_by_its_creator() -> None:
    """Containers are owned with their contents, so that a later owner can be told apart."""
    created = _update(None, {**_widget(size=1, set=["x"]), "metadata": {"name": "w", "labels": {"l": "1"}}})
    assert set(_owners(created)["editor"]) == {
        ".spec",
        ".metadata.labels",
        ".metadata.labels.l",
        ".spec.set",
        ".spec.size",
        '.spec.set[="x"]',
    }


def test_an_update_moves_ownership_of_what_it_changes() -> None:
    """Changed fields move, removed ones are forgotten, the rest stays put."""
    live = _apply(None, _widget(size=1, map={"a": "1", "b": "2"}))
    changed = _update(live, _edited(live, size=2, map={"a": "1"}), now=_NOW + 60)
    assert _owners(changed) == {"one*": [".spec.map.a"], "editor": [".spec.size"]}
    times = {entry["manager"]: entry["time"] for entry in changed["metadata"]["managedFields"]}
    assert times == {"one": "2023-11-14T22:13:20Z", "editor": "2023-11-14T22:14:20Z"}


def test_an_update_that_changes_nothing_changes_no_entry() -> None:
    """Same fields, same entries: the store sees an equal object."""
    live = _update(None, _widget(size=1))
    again = _update(live, copy.deepcopy(live), now=_NOW + 60)
    assert again["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_status_is_not_owned_through_the_main_resource() -> None:
    """Reset fields are neither owned nor in conflict."""
    created = _update(None, {**_widget(size=1), "status": {"x": 1}}, reset=apply.STATUS_ONLY)
    assert not any(field.startswith(".status") for field in _owners(created)["editor"])
    written = _update(created, {**created, "status": {"x": 2}}, "controller", subresource="status")
    assert _owners(written)["controller"] == [".status.x"]
    applied = _apply(written, {**_widget(size=1), "status": {"x": 3}}, reset=apply.STATUS_ONLY)
    assert _owners(applied)["one*"] == [".spec.size"]


def test_an_entry_per_subresource() -> None:
    """One manager writing spec and status has two entries."""
    created = _update(None, _widget(size=1), "m")
    both = _update(created, {**created, "status": {"x": 1}}, "m", subresource="status")
    entries = both["metadata"]["managedFields"]
    assert [(e["manager"], e.get("subresource")) for e in entries] == [("m", None), ("m", "status")]


def test_a_client_can_give_up_all_ownership() -> None:
    """`managedFields: [{}]` clears the entries, and the object is not tracked from then on."""
    live = _update(None, _widget(size=1))
    cleared = _update(live, {**live, "metadata": {"name": "w", "managedFields": [{}]}})
    assert "managedFields" not in cleared["metadata"]
    assert "managedFields" not in _update(cleared, _edited(cleared, size=2))["metadata"]


def test_a_client_without_the_field_does_not_destroy_it() -> None:
    """Old clients drop `managedFields` on a PUT; malformed ones are ignored as well."""
    live = _update(None, _widget(size=1))
    bare = _update(live, {**live, "metadata": {"name": "w"}})
    assert bare["metadata"]["managedFields"] == live["metadata"]["managedFields"]
    wrong = _update(live, {**live, "metadata": {"name": "w", "managedFields": [{"manager": "x"}]}})
    assert wrong["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_a_client_may_edit_ownership() -> None:
    """Well-formed entries of a PUT are taken, in canonical spelling."""
    live = _update(None, _widget(keyed=[{"name": "k"}]))
    entry = {**live["metadata"]["managedFields"][0], "manager": "renamed"}
    entry["fieldsV1"] = {"f:spec": {"f:keyed": {'k:{ "name" : "k" }': {".": {}}}}}
    edited = _update(live, {**live, "metadata": {"name": "w", "managedFields": [entry]}})
    assert _owners(edited) == {"renamed": ['.spec.keyed[name="k"]']}


def test_before_the_first_apply_everything_belongs_to_someone() -> None:
    """An untracked object cannot be overwritten silently by its first applier."""
    live = {**_widget(size=1, map={"a": "1"}), "metadata": {"name": "w", "uid": "u"}}
    with pytest.raises(errors.Conflict, match=r'conflict with "before-first-apply" using example\.com/v1'):
        _apply(live, _widget(size=2))
    shared = _apply(live, _widget(size=1))
    assert ".spec.size" in _owners(shared)["before-first-apply"]
    assert _owners(shared)["one*"] == [".spec.size"]


def test_an_object_that_cannot_be_tracked_is_left_to_validation() -> None:
    """A keyed element without keys must come out as an invalid field, not as a failure to track it."""
    live = _update(None, _widget(size=1))
    broken = _update(live, _edited(live, size=2, keyed=[{"value": "v"}]))
    assert broken["spec"] == {"size": 2, "keyed": [{"value": "v"}]}
    assert broken["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_at_most_ten_updaters_are_told_apart() -> None:
    """The oldest flow together, and nothing owned is forgotten."""
    live = _update(None, _widget(size=0))
    for turn in range(15):
        spec = {**live["spec"].get("map", {}), f"k{turn}": "1"}
        live = _update(live, _edited(live, map=spec), f"m{turn:02}", now=_NOW + turn)
    entries = live["metadata"]["managedFields"]
    assert len(entries) == managed.UPDATE_MANAGERS_MAX
    assert [e["manager"] for e in entries].count(managed.ANCIENT) == 1
    owned = {field for fields in _owners(live).values() for field in fields}
    assert {f".spec.map.k{turn}" for turn in range(15)} <= owned


def _client_side(live_spec: dict[str, Any], last_spec: dict[str, Any]) -> Object:
    last = msgspec.json.encode(_widget(**last_spec)).decode()
    obj = _widget(**live_spec)
    obj["metadata"]["annotations"] = {apply.LAST_APPLIED: last}
    return _update(None, obj, "kubectl-client-side-apply")


def test_kubectl_may_move_from_client_side_apply() -> None:
    """What kubectl applied last from the client is no conflict, and the annotation follows."""
    live = _client_side({"size": 1}, {"size": 1})
    moved = _apply(live, _widget(size=2), "kubectl")
    assert moved["spec"]["size"] == 2
    annotation = moved["metadata"]["annotations"][apply.LAST_APPLIED]
    assert msgspec.json.decode(annotation)["spec"] == {"size": 2}
    with pytest.raises(errors.Conflict):
        _apply(live, _widget(size=2), "helm")


def test_kubectl_still_conflicts_where_the_object_was_changed_since() -> None:
    """The annotation vouches only for what the live object still has."""
    live = _client_side({"size": 3, "map": {"a": "1"}}, {"size": 1, "map": {"a": "1"}})
    with pytest.raises(errors.Conflict) as caught:
        _apply(live, _widget(size=2, map={"a": "2"}), "kubectl")
    assert [cause.field for cause in caught.value.causes] == [".spec.size"]


@pytest.mark.parametrize(
    ("applied", "message"),
    [
        (_widget(unknown=1), ".spec.unknown: field not declared in schema"),
        (_widget(keyed=[{"value": "v"}]), "omits all key fields"),
        (_widget(keyed=[{"name": "a"}, {"name": "a"}]), 'duplicate entries for key [name="a"]'),
        (_widget(set=["a", "a"]), 'duplicate entries for key [="a"]'),
        (_widget(set=[{}]), "associative list without keys has an element that is not a scalar"),
        (_widget(struct=[]), ".spec.struct: expected map, got []"),
        (_widget(keyed={}), ".spec.keyed: expected list, got {}"),
        ({**_widget(), "metadata": {"name": "w", "managedFields": []}}, "metadata.managedFields must be nil"),
    ],
)
def test_what_does_not_fit_the_schema_cannot_be_applied(applied: Object, message: str) -> None:
    """A typo must not be dropped in silence, nor an element be lost."""
    with pytest.raises(errors.BadRequest) as caught:
        _apply(None, applied)
    assert message in caught.value.message


def test_ports_without_protocol_are_the_default_protocols_ports() -> None:
    """Key defaults make `80` and `80/TCP` one element."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    live = _apply(None, {**service, "spec": {"ports": [{"port": 80, "name": "a"}]}}, schema=_SERVICE)
    again = {**service, "spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "a"}]}}
    merged = _apply(live, again, schema=_SERVICE)
    assert merged["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "name": "a"}]


def test_a_merged_list_keeps_applied_order_and_live_neighbours() -> None:
    """Shared elements stand in the applied order, others where they stood."""
    live = _update(None, _widget(set=["s1", "a", "s2", "b", "s3"]))
    merged = _apply(live, _widget(set=["b", "new", "a"]))
    assert merged["spec"]["set"] == ["s1", "s2", "b", "s3", "new", "a"]


def test_a_list_made_atomic_is_owned_whole() -> None:
    """After a schema change the entries follow at the next write."""
    live = _apply(None, _widget(set=["a"]))
    atomic = copy.copy(_WIDGET)
    atomic.fields = {**_WIDGET.fields}
    spec = atomic.fields["spec"] = copy.copy(_WIDGET.fields["spec"])
    spec.fields = {**spec.fields, "set": shape.atomic_list()}
    changed = _apply(live, _widget(set=["b"]), schema=atomic)
    assert changed["spec"] == {"set": ["b"]}
    assert _owners(changed) == {"one*": [".spec.set"]}


def test_inputs_stay_as_they_are() -> None:
    """Documents from the cache are shared by every watcher."""
    live = _apply(None, _widget(size=1, keyed=[{"name": "a", "value": "1"}], map={"a": "1"}))
    applied = _widget(keyed=[{"name": "b"}], map={"b": "2"})
    originals = copy.deepcopy((live, applied))
    _apply(live, applied)
    _update(live, _edited(live, size=2))
    assert (live, applied) == originals


_SPECS = st.fixed_dictionaries(
    {},
    optional={
        "size": st.integers(0, 2),
        "map": st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3),
        "set": st.lists(st.sampled_from("abc"), unique=True, max_size=3),
        "keyed": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from("abc")}, optional={"value": st.sampled_from("12")}
            ),
            unique_by=lambda item: item["name"],
            max_size=3,
        ),
        "struct": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
        "whole": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
        "list": st.lists(st.sampled_from("ab"), max_size=2),
    },
)


@given(_SPECS, _SPECS, _SPECS)
def test_applying_twice_is_applying_once(
    created: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Whatever came before, a forced apply is stable from then on."""
    live = _apply(_update(None, _widget(**created)), _widget(**first), "two", force=True)
    once = _apply(live, _widget(**second), force=True)
    assert _apply(once, _widget(**second), now=_NOW + 60) is once


@given(_SPECS, _SPECS)
def test_what_was_applied_is_there(created: dict[str, Any], applied: dict[str, Any]) -> None:
    """After a forced apply, applying changes nothing: all is as it was applied."""
    merged = _apply(_update(None, _widget(**created)), _widget(**applied), force=True)
    bare = {**merged, "metadata": {"name": "w"}}
    overlaid = typed.merge(_WIDGET, bare, _widget(**applied))
    assert typed.compare(_WIDGET, bare, overlaid).is_same


@given(_SPECS)
def test_leaving_takes_everything_along(applied: dict[str, Any]) -> None:
    """A sole applier that applies nothing leaves nothing it owned."""
    pruned = _apply(_apply(None, _widget(**applied)), _widget())
    assert not fieldset.intersection(
        typed.owned(_WIDGET, pruned), typed.owned(_WIDGET, _widget(**applied))
    ).get("f:spec")


@given(_SPECS, _SPECS)
def test_comparing_both_ways_mirrors(left: dict[str, Any], right: dict[str, Any]) -> None:
    """What is added one way is removed the other way."""
    there = typed.compare(_WIDGET, _widget(**left), _widget(**right))
    back = typed.compare(_WIDGET, _widget(**right), _widget(**left))
    assert fieldset.encode(there.added) == fieldset.encode(back.removed)
    assert fieldset.encode(there.modified) == fieldset.encode(back.modified)


@given(
    _SPECS,
    st.recursive(
        st.sampled_from(["1", 0, None, {}]), lambda below: st.dictionaries(st.sampled_from("ab"), below)
    ),
)
def test_a_new_object_adds_each_of_its_fields(spec: dict[str, Any], free: Any) -> None:
    """What is added to nothing is what the object mentions, with everything on the way there."""
    new = _widget(**{name: value for name, value in spec.items() if value != []}, free=free)
    mentioned = typed.with_named_fields(_WIDGET, typed.owned(_WIDGET, new))
    added = typed.compare(_WIDGET, {}, new).added
    assert msgspec.json.encode(fieldset.encode(added)) == msgspec.json.encode(fieldset.encode(mentioned))

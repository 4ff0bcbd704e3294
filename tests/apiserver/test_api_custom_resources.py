"""Custom resources: served as soon as their definition is, held to its schema, gone with it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from ondol import store
from ondol.api.objects import Object
from ondol.apiserver import documents
from ondol.apiserver.crds import serving

pytestmark = pytest.mark.anyio

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.org/v1/namespaces/default/widgets"


def _crd(*, versions: list[Object] | None = None, name: str = "widgets", **names: Any) -> Object:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "colour": {"type": "string", "default": "red"},
                    "replicas": {"type": "integer"},
                },
            },
            "status": {
                "type": "object",
                "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}},
            },
        },
    }
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        "selectableFields": [{"jsonPath": ".spec.colour"}],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{name}.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {
                "plural": name,
                "singular": name[:-1],
                "kind": name[:-1].title(),
                "listKind": f"{name[:-1].title()}List",
                **names,
            },
            "versions": versions or [version],
        },
    }


def _widget(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "example.org/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 1, **spec},
    }


def _conditions(crd: Any) -> dict[str, str]:
    return {c["type"]: c["status"] for c in crd["status"]["conditions"]}


async def _define(api: Any, crd: Object | None = None) -> None:
    answer = await api.post(CRDS, crd or _crd())
    assert answer.status == 201, answer.json
    await api.settle()


async def test_a_definition_is_established_and_served(api: Any) -> None:
    """Conditions, accepted names, stored versions; discovery and the paths are there at once."""
    assert (await api.get(WIDGETS)).status == 404
    await _define(api)
    crd = (await api.get(f"{CRDS}/widgets.example.org")).json
    assert _conditions(crd) == {"NamesAccepted": "True", "Established": "True"}
    assert crd["status"]["acceptedNames"]["kind"] == "Widget"
    assert crd["status"]["storedVersions"] == ["v1"]
    listed = (await api.get("/apis/example.org/v1")).json
    assert [r["name"] for r in listed["resources"]] == ["widgets", "widgets/scale", "widgets/status"]
    assert (await api.get(WIDGETS)).json["kind"] == "WidgetList"
    document = (await api.get("/openapi/v3/apis/example.org/v1")).json
    assert "org.example.v1.Widget" in document["components"]["schemas"]


async def test_custom_objects_are_pruned_defaulted_and_checked(api: Any) -> None:
    """The schema decides what is kept, what is filled in and what is refused."""
    await _define(api)
    answer = await api.post(WIDGETS, {**_widget("a", shape="round"), "extra": 1})
    assert answer.status == 201
    assert answer.json["spec"] == {"size": 1, "colour": "red"}
    assert "extra" not in answer.json
    assert answer.json["metadata"]["generation"] == 1
    assert answer.warnings == ['299 - "unknown field \\"extra\\""', '299 - "unknown field \\"spec.shape\\""']
    strict = await api.post(f"{WIDGETS}?fieldValidation=Strict", _widget("b", shape="round"))
    assert (strict.status, strict.json["message"]) == (
        400,
        (
            'Widget in version "v1" cannot be handled as a Widget: '
            'strict decoding error: unknown field "spec.shape"'
        ),
    )
    for spec in ({"size": 0}, {"size": "big"}, {"size": None}):
        refused = await api.post(WIDGETS, _widget("c", **spec))
        assert refused.status == 422, refused.json
        assert refused.json["details"]["causes"][0]["field"] == "spec.size"
    missing = await api.post(WIDGETS, {**_widget("c"), "spec": {}})
    assert "spec.size: Required value" in missing.json["message"]


async def test_custom_status_scale_and_columns(api: Any) -> None:
    """Subresources and printer columns as declared."""
    await _define(api)
    answer = await api.post(WIDGETS, {**_widget("a", replicas=2), "status": {"replicas": 9}})
    assert "status" not in answer.json
    reported = await api.patch(f"{WIDGETS}/a/status", {"status": {"replicas": 2, "selector": "a=b"}})
    assert reported.json["metadata"]["generation"] == 1
    scale = (await api.get(f"{WIDGETS}/a/scale")).json
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 2, "selector": "a=b"})
    assert (await api.patch(f"{WIDGETS}/a/scale", {"spec": {"replicas": 5}})).json["spec"]["replicas"] == 5
    assert (await api.get(f"{WIDGETS}/a")).json["metadata"]["generation"] == 2
    table = (await api.get(WIDGETS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Size"]
    assert table["rows"][0]["cells"] == ["a", 1]


async def test_custom_objects_are_applied_but_not_strategically_merged(api: Any) -> None:
    """Apply works by the schema; a strategic patch is refused with 415."""
    await _define(api)
    assert (await api.apply(f"{WIDGETS}/a", _widget("a"), "one")).status == 201
    refused = await api.patch(f"{WIDGETS}/a", {"spec": {"size": 2}}, "strategic-merge-patch+json")
    assert refused.status == 415
    blind = await api.put(f"{WIDGETS}/a", _widget("a", size=3))
    assert blind.status == 422
    assert "must be specified for an update" in blind.json["message"]


async def test_selectable_fields(api: Any) -> None:
    """A declared field selects; any other does not."""
    await _define(api)
    await api.post(WIDGETS, _widget("a"))
    await api.post(WIDGETS, _widget("b", colour="blue"))
    items = (await api.get(f"{WIDGETS}?fieldSelector=spec.colour%3Dblue")).json["items"]
    assert [item["metadata"]["name"] for item in items] == ["b"]
    assert (await api.get(f"{WIDGETS}?fieldSelector=spec.size%3D1")).status == 400


async def test_versions_differ_in_name_only(api: Any) -> None:
    """Conversion None: one object, read and written in every served version."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions: list[Object] = [
        {"name": n, "served": s, "storage": n == "v1", "schema": {"openAPIV3Schema": anything}}
        for n, s in (("v1", True), ("v1beta1", True), ("v1alpha1", False))
    ]
    await _define(api, _crd(versions=versions))
    beta = WIDGETS.replace("/v1/", "/v1beta1/")
    answer = await api.post(beta, {**_widget("a"), "apiVersion": "example.org/v1beta1"})
    assert answer.json["apiVersion"] == "example.org/v1beta1"
    assert (await api.get(f"{WIDGETS}/a")).json["apiVersion"] == "example.org/v1"
    assert (await api.get(beta)).json["items"][0]["apiVersion"] == "example.org/v1beta1"
    async with api.watch(f"{beta}?watch=true") as watch:
        assert (await watch.next())["object"]["apiVersion"] == "example.org/v1beta1"
    stored = api.store.get("widgets.example.org", "default/a")
    assert stored.value.startswith(b'{"apiVersion":"example.org/v1",')
    assert (await api.get(WIDGETS.replace("/v1/", "/v1alpha1/"))).status == 404


async def test_a_new_default_holds_for_old_objects(api: Any) -> None:
    """What was written before the schema had a default is read with it, by selectors and watches too."""
    await _define(api)
    await api.post(WIDGETS, _widget("a"))
    crd = (await api.get(f"{CRDS}/widgets.example.org")).json
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["shape"] = {"type": "string", "default": "round"}
    crd["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": ".spec.shape"}]
    assert (await api.put(f"{CRDS}/widgets.example.org", crd)).status == 200
    await api.settle()
    defaulted = {"size": 1, "colour": "red", "shape": "round"}
    assert (await api.get(f"{WIDGETS}/a")).json["spec"] == defaulted
    assert (await api.get(WIDGETS)).json["items"][0]["spec"] == defaulted
    selected = (await api.get(f"{WIDGETS}?fieldSelector=spec.shape%3Dround")).json["items"]
    assert [item["spec"] for item in selected] == [defaulted]
    async with api.watch(f"{WIDGETS}?watch=true") as watch:
        assert (await watch.next())["object"]["spec"] == defaulted
    assert b"round" not in api.store.get("widgets.example.org", "default/a").value


async def test_a_version_that_is_no_longer_served_is_withdrawn(api: Any) -> None:
    """Unserving a version takes away its path, its discovery and its OpenAPI."""
    await _define(api)
    crd = (await api.get(f"{CRDS}/widgets.example.org")).json
    second = {**crd["spec"]["versions"][0], "name": "v2", "storage": False}
    crd["spec"]["versions"].append(second)
    assert (await api.put(f"{CRDS}/widgets.example.org", crd)).status == 200
    await api.settle()
    assert (await api.get(WIDGETS.replace("/v1/", "/v2/"))).status == 200
    crd = (await api.get(f"{CRDS}/widgets.example.org")).json
    crd["spec"]["versions"][1]["served"] = False
    await api.put(f"{CRDS}/widgets.example.org", crd)
    await api.settle()
    assert (await api.get(WIDGETS.replace("/v1/", "/v2/"))).status == 404
    assert (await api.get("/apis/example.org/v2")).status == 404


async def test_a_definition_that_serves_nothing_takes_its_objects_with_it(api: Any) -> None:
    """They are deleted though no version shows them; meanwhile other definitions come and go."""
    await _define(api)
    await api.post(WIDGETS, _widget("a"))
    crd = (await api.get(f"{CRDS}/widgets.example.org")).json
    crd["spec"]["versions"][0]["served"] = False
    assert (await api.put(f"{CRDS}/widgets.example.org", crd)).status == 200
    await api.settle()
    assert (await api.get(WIDGETS)).status == 404
    await _define(api, _crd(name="gadgets"))
    assert (await api.get("/apis/example.org/v1/gadgets")).status == 200
    assert (await api.delete(f"{CRDS}/widgets.example.org")).status == 200
    await api.settle()
    assert (await api.get(f"{CRDS}/widgets.example.org")).status == 404
    assert api.store.count("widgets.example.org") == 0


async def test_names_go_to_who_comes_first(api: Any) -> None:
    """A second definition with a taken kind is not served until the name is free."""
    await _define(api)
    await _define(api, _crd(name="gadgets", kind="Widget"))
    second = (await api.get(f"{CRDS}/gadgets.example.org")).json
    assert _conditions(second) == {"NamesAccepted": "False", "Established": "False"}
    reason = next(c for c in second["status"]["conditions"] if c["type"] == "NamesAccepted")
    assert (reason["reason"], reason["message"]) == ("KindConflict", '"Widget" is already in use')
    assert (await api.get("/apis/example.org/v1/gadgets")).status == 404


async def test_a_name_that_becomes_free_is_given_on(api: Any) -> None:
    """The definition that waited is established when the first one goes."""
    await _define(api)
    await _define(api, _crd(name="gadgets", kind="Widget"))
    await api.delete(f"{CRDS}/widgets.example.org")
    await api.settle()
    second = (await api.get(f"{CRDS}/gadgets.example.org")).json
    assert _conditions(second) == {"NamesAccepted": "True", "Established": "True"}


async def test_a_definition_takes_its_objects_along(api: Any) -> None:
    """Objects are deleted first, with their finalizers respected; nothing new is created meanwhile."""
    await _define(api)
    await api.post(WIDGETS, _widget("a"))
    widget = _widget("b")
    widget["metadata"]["finalizers"] = ["example.org/hold"]
    await api.post(WIDGETS, widget)
    going = (await api.delete(f"{CRDS}/widgets.example.org")).json
    assert going["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert _conditions(going)["Terminating"] == "True"
    await api.settle()
    assert (await api.get(f"{WIDGETS}/a")).status == 404
    assert (await api.get(f"{WIDGETS}/b")).json["metadata"]["deletionTimestamp"]
    refused = await api.post(WIDGETS, _widget("c"))
    assert (refused.status, refused.json["reason"]) == (405, "MethodNotAllowed")
    await api.patch(f"{WIDGETS}/b", {"metadata": {"finalizers": []}})
    await api.clock.advance(5)
    assert (await api.get(f"{CRDS}/widgets.example.org")).status == 404
    assert (await api.get(WIDGETS)).status == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"group": "x.y"}, "metadata.name"),
        ({"scope": "Everywhere"}, "spec.scope"),
        ({"versions": []}, "spec.versions"),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion"),
    ],
)
async def test_definitions_that_cannot_be(api: Any, change: dict[str, Any], field: str) -> None:
    """Refused with the field that is wrong."""
    crd = _crd()
    crd["spec"] |= change
    refused = await api.post(CRDS, crd)
    assert refused.status == 422, refused.json
    assert any(cause["field"].startswith(field) for cause in refused.json["details"]["causes"])


async def test_a_schema_that_is_not_structural_is_refused(api: Any) -> None:
    """A type is needed everywhere; the path of the place that lacks it is told."""
    crd = _crd()
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["odd"] = {"description": "no type"}
    refused = await api.post(CRDS, crd)
    assert refused.status == 422
    assert "properties[odd].type" in refused.json["message"]


def _ruled(*rules: Object) -> Object:
    """The definition of widgets with rules for the spec."""
    crd = _crd()
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["x-kubernetes-validations"] = list(rules)
    return crd


async def test_objects_are_held_to_rules(api: Any) -> None:
    """A write that breaks a rule is refused in the rule's words, on create, update, patch and apply."""
    await _define(api, _ruled({"rule": "self.size < 5", "message": "too big", "fieldPath": ".size"}))
    refused = await api.post(WIDGETS, _widget("a", size=9))
    assert refused.status == 422
    assert refused.json["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: too big",
            "field": "spec.size",
        }
    ]
    assert (await api.post(WIDGETS, _widget("a", size=4))).status == 201
    assert (await api.patch(f"{WIDGETS}/a", {"spec": {"size": 9}})).status == 422
    assert (await api.apply(f"{WIDGETS}/a", _widget("a", size=9), "me", force=True)).status == 422
    assert (await api.get(f"{WIDGETS}/a")).json["spec"]["size"] == 4


@pytest.mark.parametrize(
    ("rule", "heavy"),
    [("self.size < 5", False), ("lists.range(300).all(x, lists.range(300).all(y, x >= 0))", True)],
)
def test_costly_rules_are_run_beside_the_loop(rule: str, heavy: bool) -> None:
    """The first validation compiles the rules; those after it are as heavy as the rules may cost."""
    version = _ruled({"rule": rule})["spec"]["versions"][0]
    schema = serving.CustomSchema(version)
    assert schema.is_heavy
    schema.problems(_widget("a"), None)
    assert schema.is_heavy is heavy
    assert not serving.CustomSchema(_crd()["spec"]["versions"][0]).is_heavy


async def test_rules_of_changes_hold(api: Any) -> None:
    """What must not change does not, in the object and in its status alike."""
    await _define(api, _ruled({"rule": "self.colour == oldSelf.colour", "message": "fixed"}))
    assert (await api.post(WIDGETS, _widget("a", colour="blue"))).status == 201
    assert (await api.patch(f"{WIDGETS}/a", {"spec": {"size": 3}})).status == 200
    refused = await api.patch(f"{WIDGETS}/a", {"spec": {"colour": "red"}})
    assert refused.status == 422
    assert "spec: Invalid value: fixed" in refused.json["message"]


async def test_objects_older_than_a_rule_can_be_written(api: Any) -> None:
    """What a new rule says of a value that does not change is a warning."""
    await _define(api)
    assert (await api.post(WIDGETS, _widget("a", size=9))).status == 201
    ruled = _ruled({"rule": "self.size < 5", "message": "too big"})
    assert (await api.apply(f"{CRDS}/widgets.example.org", ruled, "me", force=True)).status == 200
    await api.settle()
    written = await api.patch(f"{WIDGETS}/a", {"metadata": {"labels": {"a": "b"}}})
    assert written.status == 200
    assert any("spec: Invalid value: too big" in warning for warning in written.warnings)
    assert (await api.patch(f"{WIDGETS}/a", {"spec": {"size": 8}})).status == 422


async def test_definitions_with_wrong_rules_are_refused(api: Any) -> None:
    """With the place and the reason, on create and update."""
    place = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    refused = await api.post(CRDS, _ruled({"rule": "self.nope > 1"}))
    assert refused.status == 422
    (cause,) = refused.json["details"]["causes"]
    assert cause["field"] == place
    assert "compilation failed: ERROR: <input>:1:5: undefined field 'nope'" in cause["message"]
    created = await api.post(CRDS, _ruled({"rule": "self.size > 0"}))
    assert created.status == 201
    assert not created.warnings
    changed = _ruled({"rule": "self.size"})["spec"]
    refused = await api.patch(f"{CRDS}/widgets.example.org", {"spec": changed})
    assert refused.status == 422
    assert "cel expression must evaluate to a bool" in refused.json["message"]


async def test_definitions_outlive_a_restart(start: Any) -> None:
    """A server that starts again serves what was established before its first request."""
    log = store.open_memory()
    async with start(log) as api:
        await _define(api)
        await api.post(WIDGETS, _widget("a"))
    async with start(log) as api:
        assert (await api.get(f"{WIDGETS}/a")).json["spec"]["colour"] == "red"
    log.close()


async def test_a_watch_ends_when_its_definition_says_something_else(api: Any) -> None:
    """It would go on showing objects by what the definition said: clients are to watch anew."""
    await _define(api)
    async with api.watch(f"{WIDGETS}?watch=1") as watch:
        labelled = {"metadata": {"labels": {"a": "b"}}, "status": {"conditions": []}}
        assert (await api.patch(f"{CRDS}/widgets.example.org", labelled)).status == 200
        await api.settle()
        await api.post(WIDGETS, _widget("a"))
        assert (await watch.next())["type"] == "ADDED", "a label says nothing of the objects"
        properties = {"spec": {"properties": {"weight": {"type": "integer", "default": 3}}}}
        crd = (await api.get(f"{CRDS}/widgets.example.org")).json
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        schema["spec"]["properties"] |= properties["spec"]["properties"]
        assert (await api.put(f"{CRDS}/widgets.example.org", crd)).status == 200
        await api.settle()
        await api.post(WIDGETS, _widget("b"))
        with pytest.raises(anyio.EndOfStream):
            await watch.next()


async def test_a_watch_ends_with_its_definition(api: Any) -> None:
    """After the end of each object; a new definition of the same name has watches of its own."""
    await _define(api)
    await api.post(WIDGETS, _widget("a"))
    async with api.watch(f"{WIDGETS}?watch=1") as watch:
        assert (await watch.next())["type"] == "ADDED"
        assert (await api.delete(f"{CRDS}/widgets.example.org")).status == 200
        assert (await watch.next())["type"] == "DELETED"
        with pytest.raises(anyio.EndOfStream):
            await watch.next()


def _version(name: str, *, storage: bool = False, **more: Any) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}, **more}


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ({"deprecated": True}, "example.org/v1beta1 Widget is deprecated; use example.org/v1 Widget"),
        ({"deprecated": True, "deprecationWarning": "go on to v1"}, "go on to v1"),
        ({}, ""),
    ],
)
async def test_a_version_that_is_given_up_is_warned_of(api: Any, more: Any, warning: str) -> None:
    """With every request for it, in the definition's words or Kubernetes' own."""
    versions = [
        _version("v1beta1", **more),
        _version("v1", storage=True),
        _version("v1alpha1", deprecated=True),
    ]
    await _define(api, _crd(versions=versions))
    path = "/apis/example.org/v1beta1/namespaces/default/widgets"
    expected = [f'299 - "{warning}"'] if warning else []
    assert (await api.get(path)).warnings == expected
    body = {"apiVersion": "example.org/v1beta1", "kind": "Widget", "metadata": {"name": "a"}}
    assert (await api.post(path, body)).warnings == expected
    assert (await api.get(f"{path}/none")).warnings == expected
    assert not (await api.get(WIDGETS)).warnings
    if more:
        last = await api.get("/apis/example.org/v1alpha1/namespaces/default/widgets")
        assert last.warnings == [
            '299 - "example.org/v1alpha1 Widget is deprecated; use example.org/v1 Widget"'
        ]


async def test_endpoints_are_given_up(api: Any) -> None:
    """As Kubernetes says since 1.33, whatever is asked of them."""
    warning = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    assert (await api.get("/api/v1/namespaces/default/endpoints")).warnings == [warning]


def test_what_was_filled_in_is_remembered_by_its_size() -> None:
    """Large objects with defaults take no more memory than many small ones."""
    reading = serving.Reading("example.org/v1", "example.org/v1", lambda obj: obj.update(shape="round"))
    for number in range(60):
        value = documents.dump({"apiVersion": "example.org/v1", "n": number, "text": "x" * 1_000_000})
        assert documents.parse(reading.as_served(value))["shape"] == "round"
        assert sum(len(k) + len(v) for k, v in reading._filled.items()) <= 16 * 1024 * 1024
    assert reading.as_served(value) is reading.as_served(value)


async def test_finalizers_may_be_plain_names(api: Any) -> None:
    """Operators have such ones on kinds of theirs, as Kubernetes lets them; no name at all is refused."""
    await _define(api)
    widget = _widget("a")
    widget["metadata"]["finalizers"] = ["widgets.example.org", "example.org/widgets"]
    assert (await api.post(WIDGETS, widget)).status == 201
    wrong = _widget("b")
    wrong["metadata"]["finalizers"] = ["no name"]
    assert (await api.post(WIDGETS, wrong)).status == 422
    config_map = {"metadata": {"name": "c", "finalizers": ["widgets.example.org"]}}
    assert (await api.post("/api/v1/namespaces/default/configmaps", config_map)).status == 422

"""From type hints to structural schemas, and from documents to typed views."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest

from ondol import sdk
from ondol.api.objects import Object
from ondol.sdk import schema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(sdk.Model, frozen=True):
    """A part."""

    size_mm: Annotated[int, msgspec.Meta(gt=0, le=100)] = 3


class ThingSpec(sdk.Model, frozen=True, kw_only=True):
    """What is wanted."""

    title: Annotated[str, msgspec.Meta(min_length=1, pattern="^[a-z]+$", description="Its name.")]
    mode: Literal["fast", "safe"] = "safe"
    colour: Colour = Colour.RED
    port: int | str = "http"
    ratio: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    part: Part = Part()
    spare: Part | None = None
    parts: Annotated[tuple[Part, ...], msgspec.Meta(max_length=3)] = ()
    labels: Mapping[str, str] = {}
    free: dict[str, Any] = msgspec.field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    since: datetime | None = None
    digest: bytes = b""
    fixed: Annotated[str, sdk.IMMUTABLE] = ""
    on: bool = False


class ThingStatus(sdk.Status, frozen=True):
    phase: str = ""


@sdk.custom_resource(
    group="x.test",
    version="v1beta1",
    plural="thingies",
    short_names=["th"],
    categories=["all"],
    columns=[sdk.Column("Phase", ".status.phase", priority=1)],
    scale=sdk.Scale(selector_path=".status.selector"),
    selectable_fields=[".spec.mode"],
)
class Thing(sdk.CustomResource, frozen=True):
    """A thing of the test."""

    spec: Annotated[ThingSpec, sdk.rules(("self.mode != 'fast' || self.on", "fast things are on"))]
    status: ThingStatus = ThingStatus()


def spec_properties() -> Object:
    properties: Object = schema.open_api(Thing)["properties"]["spec"]["properties"]
    return properties


def test_the_definition_says_how_the_kind_is_served() -> None:
    """Names, scope, subresources, columns and selectable fields come from the decorator."""
    crd = sdk.crd(Thing)
    assert crd["metadata"]["name"] == "thingies.x.test"
    assert crd["spec"]["names"] == {
        "plural": "thingies",
        "singular": "thing",
        "kind": "Thing",
        "listKind": "ThingList",
        "shortNames": ["th"],
        "categories": ["all"],
    }
    version = crd["spec"]["versions"][0]
    assert (version["name"], version["served"], version["storage"]) == ("v1beta1", True, True)
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    column = {"name": "Phase", "type": "string", "jsonPath": ".status.phase", "priority": 1}
    assert version["additionalPrinterColumns"] == [column]
    assert version["selectableFields"] == [{"jsonPath": ".spec.mode"}]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("title", {"type": "string", "minLength": 1, "pattern": "^[a-z]+$", "description": "Its name."}),
        ("mode", {"type": "string", "enum": ["fast", "safe"], "default": "safe"}),
        ("colour", {"type": "string", "enum": ["red", "blue"], "default": "red"}),
        ("port", {"x-kubernetes-int-or-string": True, "default": "http"}),
        (
            "ratio",
            {"type": "number", "minimum": 0, "maximum": 1, "exclusiveMaximum": True, "default": 0.5},
        ),
        ("labels", {"type": "object", "additionalProperties": {"type": "string"}, "default": {}}),
        ("free", {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "default": {}}),
        (
            "tags",
            {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "default": []},
        ),
        ("since", {"type": "string", "format": "date-time", "nullable": True}),
        ("digest", {"type": "string", "format": "byte", "default": ""}),
        ("on", {"type": "boolean", "default": False}),
    ],
)
def test_a_type_hint_becomes_a_schema(field: str, expected: Object) -> None:
    """Each hint, its constraints and its default."""
    assert spec_properties()[field] == expected


def test_structs_nest() -> None:
    """A nested struct brings its description, constraints and defaults."""
    size = {"type": "integer", "maximum": 100, "minimum": 0, "exclusiveMinimum": True, "default": 3}
    part = {"type": "object", "properties": {"sizeMm": size}, "description": "A part."}
    assert spec_properties()["part"] == {**part, "default": {}}
    assert spec_properties()["spare"] == {**part, "nullable": True}
    assert spec_properties()["parts"] == {"type": "array", "items": part, "maxItems": 3, "default": []}


def test_rules_pass_through() -> None:
    """CEL rules stand where they were annotated."""
    root = schema.open_api(Thing)
    rule = {"rule": "self.mode != 'fast' || self.on", "message": "fast things are on"}
    assert root["properties"]["spec"]["x-kubernetes-validations"] == [rule]
    fixed = spec_properties()["fixed"]["x-kubernetes-validations"]
    assert fixed == [{"rule": "self == oldSelf", "message": "the field is immutable"}]


def test_required_and_described() -> None:
    """Fields without default are required; docstrings describe."""
    root = schema.open_api(Thing)
    assert root["required"] == ["spec"]
    assert root["description"] == "A thing of the test."
    assert root["properties"]["spec"]["required"] == ["title"]


def test_every_status_has_conditions_by_type() -> None:
    """The framework's status fields are there beside the author's, without defaults."""
    status = schema.open_api(Thing)["properties"]["status"]
    assert status["properties"]["phase"] == {"type": "string"}
    assert status["properties"]["observedGeneration"] == {"type": "integer"}
    assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


class Endless(sdk.Model, frozen=True):
    inner: Endless | None = None


class Mixed(sdk.Model, frozen=True):
    value: int | Part = 1


class Keyed(sdk.Model, frozen=True):
    value: dict[int, str] = msgspec.field(default_factory=dict)


class Literals(sdk.Model, frozen=True):
    value: Literal["auto", 1] = "auto"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (Endless, "contains itself"),
        (Mixed, "unions"),
        (Keyed, "keys of a map"),
        (Literals, "strings or integers"),
    ],
)
def test_what_no_structural_schema_can_say_is_refused(spec: type[sdk.Model], why: str) -> None:
    """The error names the field."""

    @sdk.custom_resource(group="x.test")
    class Odd(sdk.CustomResource, frozen=True):
        spec: Any = None

    odd = msgspec.defstruct("Odd", [("spec", spec)], bases=(Odd,), frozen=True, kw_only=True)
    assert issubclass(odd, sdk.CustomResource)
    with pytest.raises(schema.Unsupported, match=rf"Odd\.spec.*{why}"):
        schema.open_api(odd)


def test_a_view_reads_a_document_and_keeps_it() -> None:
    """Defaults fill in, unknown fields survive in `raw`."""
    document: Object = {
        "apiVersion": "x.test/v1beta1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "n", "generation": 2, "uid": "u"},
        "spec": {"title": "abc", "part": {"sizeMm": 5}, "unknown": 1},
        "status": {"phase": "Fine", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    view = Thing.view(document)
    assert (view.name, view.namespace, view.generation, view.uid) == ("a", "n", 2, "u")
    assert (view.spec.title, view.spec.part.size_mm, view.spec.mode) == ("abc", 5, "safe")
    assert view.status.conditions[0].type == "Ready"
    assert view.raw is document


def test_a_view_names_the_field_that_does_not_fit() -> None:
    """As a path into the document."""
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.part\.sizeMm"):
        Thing.view({"metadata": {}, "spec": {"title": "abc", "part": {"sizeMm": 0}}})

"""The facts of the built-in kinds are what the generator writes: of a small tree, and as they stand here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "src/ondol/api/facts"
SOURCE = json.loads((FACTS / "source.json").read_text())

CORE = "io.k8s.api.core.v1."
TYPES_GO = """package v1

import (
    metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How it rises.
// +enum
type RisePolicy string

const (
    RiseSlowly RisePolicy = "Slowly"
    RiseFast RisePolicy = "Fast"
)

type Dough struct {
    metav1.TypeMeta `json:",inline"`
    metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
    Rise RisePolicy `json:"rise" protobuf:"bytes,3,opt,name=rise,casttype=RisePolicy"`
    Loaves *int32 `json:"loaves,omitempty" protobuf:"varint,2,opt,name=loaves"`
    Toppings []Topping `json:"toppings,omitempty" protobuf:"bytes,4,rep,name=toppings"`
    hidden string
}

type Topping struct {
    Name string `json:"name" protobuf:"bytes,1,opt,name=name"`
}
"""
META_GO = """package v1

type TypeMeta struct {
    Kind string `json:"kind,omitempty" protobuf:"bytes,1,opt,name=kind"`
    APIVersion string `json:"apiVersion,omitempty" protobuf:"bytes,2,opt,name=apiVersion"`
}

type ObjectMeta struct {
    Name string `json:"name,omitempty" protobuf:"bytes,1,opt,name=name"`
}
"""
GVK = {"group": "", "version": "v1", "kind": "Dough"}
SCHEMAS: dict[str, Any] = {
    CORE + "Dough": {
        "type": "object",
        "required": ["rise"],
        "x-kubernetes-group-version-kind": [GVK],
        "properties": {
            "kind": {"type": "string"},
            "loaves": {"type": "integer", "format": "int32", "default": 2},
            "rise": {"type": "string", "default": ""},
            "toppings": {
                "type": "array",
                "items": {"allOf": [{"$ref": f"#/components/schemas/{CORE}Topping"}]},
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-patch-merge-key": "name",
                "x-kubernetes-patch-strategy": "merge",
            },
        },
    },
    CORE + "Topping": {"type": "object", "properties": {"name": {"type": "string"}}},
}
RESOURCES = [
    {
        "name": "doughs",
        "singularName": "dough",
        "namespaced": True,
        "kind": "Dough",
        "verbs": ["get", "list"],
        "shortNames": ["do"],
    },
    {"name": "doughs/status", "singularName": "", "namespaced": True, "kind": "Dough", "verbs": ["get"]},
]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """`scripts/generate_kinds.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("generate_kinds", ROOT / "scripts/generate_kinds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with one kind, laid out as Kubernetes' own."""
    files = {
        "api/discovery/aggregated_v2.json": json.dumps({"items": []}),
        "api/discovery/api__v1.json": json.dumps({"resources": RESOURCES}),
        "api/openapi-spec/v3/api__v1_openapi.json": json.dumps({"components": {"schemas": SCHEMAS}}),
        "staging/src/k8s.io/api/core/v1/types.go": TYPES_GO,
        "staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go": META_GO,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_kind_is_derived_from_discovery_openapi_and_struct_tags(
    generator: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it is served is discovery's, its fields OpenAPI's, its numbers and enumerations the Go tags'."""
    monkeypatch.setattr(generator, "SERVED", {("", "v1"): ("doughs",)})
    monkeypatch.setattr(generator, "EXTRA_TYPES", [])
    kinds, types = generator.derive(generator.Source(tree))
    assert kinds == [
        {
            "group": "",
            "version": "v1",
            "kind": "Dough",
            "plural": "doughs",
            "singular": "dough",
            "namespaced": True,
            "verbs": ["get", "list"],
            "type": CORE + "Dough",
            "shortNames": ["do"],
            "subresources": [
                {
                    "name": "status",
                    "group": "",
                    "version": "v1",
                    "kind": "Dough",
                    "verbs": ["get"],
                    "type": CORE + "Dough",
                }
            ],
        }
    ]
    assert types == {
        CORE + "Dough": {
            "gvk": ["", "v1", "Dough"],
            "fields": {
                "kind": {"type": "string", "n": 0},
                "loaves": {"type": "int32", "n": 2, "pointer": True, "default": 2},
                "rise": {
                    "type": "string",
                    "n": 3,
                    "required": True,
                    "default": "",
                    "enum": ["Fast", "Slowly"],
                },
                "toppings": {
                    "type": f"[]{CORE}Topping",
                    "n": 4,
                    "list": "map",
                    "keys": ["name"],
                    "merge": "name",
                    "strategy": "merge",
                },
            },
        },
        CORE + "Topping": {"fields": {"name": {"type": "string", "n": 1}}},
    }


def test_a_subresource_that_is_not_served_is_left_out(
    generator: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discovery promises only what is answered."""
    monkeypatch.setattr(generator, "SERVED", {("", "v1"): generator.ALL})
    monkeypatch.setattr(generator, "EXTRA_TYPES", [])
    monkeypatch.setattr(generator, "UNSERVED_SUBRESOURCES", {"doughs/status"})
    kinds, _ = generator.derive(generator.Source(tree))
    assert "subresources" not in kinds[0]


@pytest.mark.parametrize(
    ("served", "message"),
    [
        ({("", "v1"): ("dough",)}, "SERVED names dough, but the core group/v1 has doughs"),
        (
            {("bakery.k8s.io", "v1"): ("doughs",)},
            "SERVED names bakery.k8s.io/v1, which Kubernetes does not serve",
        ),
    ],
)
def test_a_slip_in_what_is_served_is_told(
    generator: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, served: Any, message: str
) -> None:
    """With what could have been meant, before anything is written."""
    monkeypatch.setattr(generator, "SERVED", served)
    with pytest.raises(SystemExit, match=message):
        generator.derive(generator.Source(tree))


def test_sources_that_cannot_be_had_are_told(tmp_path: Path) -> None:
    """Without a network there is another way, and the facts are as they were."""
    before = (FACTS / "source.json").read_bytes()
    where = {"KUBERNETES_REPOSITORY": f"file://{tmp_path}/none", "VENV": sys.prefix}
    outcome = subprocess.run(
        [ROOT / "scripts/facts", "v1.34.1"],
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    assert "KUBERNETES_REPOSITORY names a mirror, or a clone on this machine" in outcome.stderr
    assert (FACTS / "source.json").read_bytes() == before


def test_the_files_are_untouched_since_they_were_generated() -> None:
    """Each file has the digest that was recorded with it, and none is missing or added."""
    files = {path.name: path.read_bytes() for path in FACTS.glob("*.json") if path.name != "source.json"}
    assert {name: hashlib.sha256(text).hexdigest() for name, text in files.items()} == SOURCE["sha256"]


def test_the_files_are_written_in_the_generators_form(generator: ModuleType) -> None:
    """The generator would write the same facts in the same bytes."""
    kinds = json.loads((FACTS / "kinds.json").read_text())
    types: dict[str, Any] = {}
    for name in SOURCE["sha256"]:
        if name != "kinds.json":
            types |= json.loads((FACTS / name).read_text())
    texts = generator.fact_files(kinds, types, SOURCE["release"])
    assert {name: (FACTS / name).read_text() for name in texts} == texts


def test_the_files_have_the_kinds_that_the_generator_names(generator: ModuleType) -> None:
    """Who names a kind in `SERVED`, or a subresource as not served, also writes the facts anew."""
    kinds = json.loads((FACTS / "kinds.json").read_text())
    plurals: dict[tuple[str, str], set[str]] = {}
    added = [kind for kind in kinds if kind in generator.ADDED_KINDS]
    assert added == generator.ADDED_KINDS
    for kind in kinds:
        if kind in added:
            continue
        plurals.setdefault((kind["group"], kind["version"]), set()).add(kind["plural"])
    assert plurals.keys() == generator.SERVED.keys()
    named = {gv: set(names) for gv, names in generator.SERVED.items() if names != generator.ALL}
    assert {gv: plurals[gv] for gv in named} == named
    subresources = {
        f"{kind['plural']}/{sub['name']}" for kind in kinds for sub in kind.get("subresources", ())
    }
    assert subresources.isdisjoint(generator.UNSERVED_SUBRESOURCES)


def test_the_notice_names_source_and_licence(generator: ModuleType) -> None:
    """Whoever takes the facts along finds beside them whose they are, from where and on what terms."""
    notice = (FACTS / "NOTICE").read_text()
    assert SOURCE["repository"] == generator.REPOSITORY
    assert SOURCE["licence"] == "Apache-2.0"
    assert generator.REPOSITORY in notice
    assert "Apache License, Version 2.0" in notice

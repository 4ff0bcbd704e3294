"""OpenAPI documents are whole: every reference resolves, and kubectl finds what it looks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ondol.api import facts, kinds, openapi
from ondol.api.openapi import descriptions, gnostic, schemas
from ondol.base import protowire

CRD = {
    "spec": {
        "group": "stable.example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}, "scale": {}}}
        ],
    }
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "cron": {"type": "string"},
                "port": {
                    "x-kubernetes-int-or-string": True,
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                },
                "note": {"type": "string", "nullable": True},
            },
        }
    },
}


def registry() -> kinds.Registry:
    served = kinds.builtin()
    for kind in kinds.of_crd(CRD):
        served.add(kind)
    return served


def schema_of(kind: kinds.Kind) -> Mapping[str, Any] | None:
    return SCHEMA if kind.kind == "CronTab" else None


def v3(group: str, version: str) -> dict[str, Any]:
    return openapi.v3(registry(), group, version, release="v1.34.0", schema_of=schema_of)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


GROUPS = [(g, v) for g in registry().groups() for v in registry().versions(g)]


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_every_reference_of_a_v3_document_resolves(group: str, version: str) -> None:
    """Each document stands alone."""
    document = v3(group, version)
    targets = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= targets
    assert document["paths"]


def test_every_reference_of_the_v2_document_resolves() -> None:
    """One document for all."""
    document = openapi.v2(registry(), release="v1.34.0", schema_of=schema_of)
    assert set(references(document)) <= {f"#/definitions/{name}" for name in document["definitions"]}


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_operations_are_named_once(group: str, version: str) -> None:
    """Clients are generated from these names."""
    ids = [
        operation["operationId"]
        for item in v3(group, version)["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(ids) == len(set(ids))


def test_kubectl_finds_that_a_deployment_takes_strategic_patches() -> None:
    """The PATCH names its kind, its body's media types and the parameters kubectl asks for."""
    patch = v3("apps", "v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
    }
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    assert {"fieldValidation", "dryRun", "force"} <= {p["name"] for p in patch["parameters"]}
    assert patch["operationId"] == "patchAppsV1NamespacedDeployment"


def test_custom_kinds_take_no_strategic_patches() -> None:
    """They have no patch keys in Go structs."""
    document = v3("stable.example.com", "v1")
    patch = document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    assert "application/apply-patch+yaml" in patch["requestBody"]["content"]


def test_a_pod_s_schema_tells_what_patches_and_explain_need() -> None:
    """Merge keys, list types, enums, defaults and the kind."""
    components = v3("", "v1")["components"]["schemas"]
    containers = components["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert containers["description"] == "What the pod runs: at least one container."
    assert containers["items"] == {"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}]}
    protocol = components["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]
    assert protocol == {
        "description": "TCP, UDP or SCTP.",
        "type": "string",
        "default": "TCP",
        "enum": ["SCTP", "TCP", "UDP"],
    }
    assert components["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"] == [
        {"group": "", "version": "v1", "kind": "Pod"}
    ]


def test_a_custom_kind_s_schema_is_published() -> None:
    """With metadata, its list, and its scale."""
    document = v3("stable.example.com", "v1")
    components = document["components"]["schemas"]
    kind = components["com.example.stable.v1.CronTab"]
    assert kind["properties"]["spec"] == SCHEMA["properties"]["spec"]
    assert "ObjectMeta" in kind["properties"]["metadata"]["allOf"][0]["$ref"]
    assert components["com.example.stable.v1.CronTabList"]["properties"]["items"]["items"]["$ref"].endswith(
        ".CronTab"
    )
    scale = document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}/scale"][
        "get"
    ]
    assert scale["x-kubernetes-group-version-kind"]["kind"] == "Scale"


def test_v2_leaves_out_what_it_cannot_say() -> None:
    """No anyOf, no nullable."""
    document = openapi.v2(registry(), release="v1.34.0", schema_of=schema_of)
    spec = document["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"]
    assert spec["properties"]["port"] == {"x-kubernetes-int-or-string": True}
    assert spec["properties"]["note"] == {}


def test_logs_are_text() -> None:
    """And only logs are."""
    log = v3("", "v1")["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]
    assert list(log["responses"]["200"]["content"]) == ["text/plain"]
    assert "follow" in {p["name"] for p in log["parameters"]}


def test_the_index_leads_to_each_state_of_a_document() -> None:
    """A changed document has another address."""
    before = openapi.digest(v3("apps", "v1"))
    assert before == openapi.digest(v3("apps", "v1"))
    assert before != openapi.digest(v3("", "v1"))
    assert openapi.index({openapi.group_path("apps", "v1"): before}) == {
        "paths": {"apis/apps/v1": {"serverRelativeURL": f"/openapi/v3/apis/apps/v1?hash={before}"}}
    }
    assert openapi.group_path("", "v1") == "api/v1"


def test_the_protobuf_form_of_v2_holds_every_path_and_definition() -> None:
    """Names, references, defaults and extensions are found where Go clients look."""
    document = openapi.v2(registry(), release="v1.34.0", schema_of=schema_of)
    parts = dict(protowire.fields(gnostic.encode(document)))
    assert parts[1] == b"2.0"
    paths, definitions = parts[8], parts[9]
    assert isinstance(paths, bytes)
    assert isinstance(definitions, bytes)
    assert names(paths) == set(document["paths"])
    assert names(definitions) == set(document["definitions"])
    spec = entry(definitions, "io.k8s.api.core.v1.PodSpec")
    containers = entry(dict(protowire.fields(spec))[25], "containers")
    decoded = list(protowire.fields(containers))
    assert (22, b"\x0a\x05array") in decoded
    extensions = {
        dict(protowire.fields(value))[1]
        for number, value in decoded
        if number == 31 and isinstance(value, bytes)
    }
    assert b"x-kubernetes-patch-merge-key" in extensions


def names(data: bytes) -> set[str]:
    return {name for name, _ in entries(data)}


def entries(data: int | bytes) -> Iterator[tuple[str, bytes]]:
    assert isinstance(data, bytes)
    for _, value in protowire.fields(data):
        assert isinstance(value, bytes)
        parts = dict(protowire.fields(value))
        name, inner = parts[1], parts[2]
        assert isinstance(name, bytes)
        assert isinstance(inner, bytes)
        yield name.decode(), inner


def entry(data: int | bytes, name: str) -> bytes:
    return dict(entries(data))[name]


def test_every_description_is_of_a_field_there_is() -> None:
    """A sentence that belongs to nothing would be read by nobody."""
    for name in descriptions.TYPES:
        assert facts.type_named(name).fields, name
    for name, fields in descriptions.FIELDS.items():
        assert fields.keys() <= facts.type_named(name).fields.keys(), name


@pytest.mark.parametrize("dialect", [schemas.V2, schemas.V3])
def test_every_kind_and_what_all_objects_have_is_described(dialect: schemas.Dialect) -> None:
    """`kubectl explain` has something to say of each kind, built in or custom."""
    builtin_kinds = kinds.builtin()
    names = [kind.type for kind in builtin_kinds if kind.stored]
    collected = schemas.collect(dialect, names, [])
    (crontab,) = kinds.of_crd(CRD)
    collected |= schemas.custom(dialect, crontab, SCHEMA)
    for name in [*names, "com.example.stable.v1.CronTab"]:
        properties = collected[name]["properties"]
        assert name.endswith("CronTab") or collected[name].get("description"), (
            f"{name} has no sentence: add one to TYPES in src/ondol/api/openapi/descriptions.py"
        )
        for field in ("apiVersion", "kind", "metadata"):
            assert properties[field]["description"], (name, field)
        # The words by which the conformance suite knows them.
        assert properties["apiVersion"]["description"].startswith("APIVersion defines ")
    created = collected[facts.META + "ObjectMeta"]["properties"]["creationTimestamp"]["description"]
    assert created.startswith("CreationTimestamp is a timestamp")
    assert descriptions.METADATA.startswith("Standard object's metadata")


@pytest.mark.parametrize("schema", [None, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}])
def test_an_open_kind_stays_open_in_v2(schema: dict[str, Any] | None) -> None:
    """Its readers take a list of fields for all there are, so that a List of such objects was refused."""
    (crontab,) = kinds.of_crd(CRD)
    closed = {**schema, "properties": {"spec": {"type": "object"}}} if schema else None
    for each in (schema, closed):
        body = schemas.custom(schemas.V2, crontab, each)["com.example.stable.v1.CronTab"]
        assert body.keys() == {"type", "x-kubernetes-group-version-kind"}
    published = schemas.custom(schemas.V3, crontab, schema)["com.example.stable.v1.CronTab"]
    assert published["x-kubernetes-preserve-unknown-fields"] is True
    assert published["properties"].keys() == {"apiVersion", "kind", "metadata"}
